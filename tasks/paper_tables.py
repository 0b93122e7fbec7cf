"""Which tables the benchmarks' papers print: what a run of them shows by category."""

from __future__ import annotations

from dataclasses import dataclass

from specs_eval.task_names import ID_SUFFIX, OOD_SUFFIX
from specs_eval.tasks.megabench.breakdown import CORE_CATEGORIES
from specs_eval.tasks.mmmu.subjects import DOMAINS


@dataclass(frozen=True, slots=True, eq=False)
class PaperTable:
    """One table: a dimension of the samples' categories, a column a value."""

    title: str
    dimension: str
    columns: dict[str, str]
    """Value -> heading, in the paper's order."""


@dataclass(frozen=True, slots=True)
class PaperTables:
    """What is shown of one benchmark."""

    headline: tuple[PaperTable, ...]
    dimensions: tuple[str, ...]
    """All that its papers break scores down by, in their order."""
    macro_over: str | None = None
    """Dimension that names tasks, where the published score is the mean over tasks."""
    parts: tuple[str, ...] = ()
    """Tasks that make up the benchmark together, where its overall score is published too."""

    def order(self, dimension: str) -> tuple[str, ...]:
        """The values of a dimension in the paper's order, as far as it has one."""
        return next((tuple(table.columns) for table in self.headline if table.dimension == dimension), ())


_MATHVISTA = PaperTables(
    headline=(
        PaperTable(
            "MathVista by task",
            "task",
            {
                "figure question answering": "FQA",
                "geometry problem solving": "GPS",
                "math word problem": "MWP",
                "textbook question answering": "TQA",
                "visual question answering": "VQA",
            },
        ),
        PaperTable(
            "MathVista by skill",
            "skills",
            {
                "algebraic reasoning": "ALG",
                "arithmetic reasoning": "ARI",
                "geometry reasoning": "GEO",
                "logical reasoning": "LOG",
                "numeric commonsense": "NUM",
                "scientific reasoning": "SCI",
                "statistical reasoning": "STA",
            },
        ),
    ),
    dimensions=(
        "task", "skills", "context", "grade", "category", "question_type", "answer_type", "language", "source",
    ),
)  # fmt: skip

_SHORT_DOMAINS = ("Art", "Business", "Science", "Health", "Human.", "Tech")

_MMMU = PaperTables(
    headline=(PaperTable("MMMU by domain", "domain", dict(zip(DOMAINS, _SHORT_DOMAINS, strict=True))),),
    dimensions=("domain", "subject", "question_type", "topic_difficulty"),
)

_MEGABENCH = PaperTables(
    headline=(
        PaperTable(
            "MEGA-Bench by application (means over tasks)",
            "app",
            dict(
                zip(
                    CORE_CATEGORIES,
                    ("Know", "Math", "Perc", "Code", "InfoEx", "Plan", "Sci", "Metr"),
                    strict=True,
                )
            ),
        ),
    ),
    dimensions=("app", "skills", "input_format", "output_format", "input_num", "task"),
    macro_over="task",
    parts=("megabench", "megabench_open"),
)

_BY_NAME = {"mathvista": _MATHVISTA, "mmmu": _MMMU, "megabench": _MEGABENCH}


def paper_tables(task: str) -> PaperTables | None:
    """The tables of a task by its name, also of a benchmark under other formats; None: no paper prints any.

    Example:
        >>> paper_tables("mmmu_pro_vision").headline[0].title
        'MMMU by domain'
    """
    bare = task.removesuffix(ID_SUFFIX).removesuffix(OOD_SUFFIX)
    return next((tables for name, tables in _BY_NAME.items() if bare == name or bare.startswith(f"{name}_")), None)

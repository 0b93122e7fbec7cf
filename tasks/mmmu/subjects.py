"""The 30 subjects of MMMU and the six domains that they form."""

from __future__ import annotations

DOMAINS: dict[str, tuple[str, ...]] = {
    "Art and Design": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
    "Health and Medicine": (
        "Basic_Medical_Science",
        "Clinical_Medicine",
        "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy",
        "Public_Health",
    ),
    "Humanities and Social Science": ("History", "Literature", "Psychology", "Sociology"),
    "Tech and Engineering": (
        "Agriculture",
        "Architecture_and_Engineering",
        "Computer_Science",
        "Electronics",
        "Energy_and_Power",
        "Materials",
        "Mechanical_Engineering",
    ),
}
SUBJECTS = tuple(sorted(subject for subjects in DOMAINS.values() for subject in subjects))

_DOMAIN_OF = {subject: domain for domain, subjects in DOMAINS.items() for subject in subjects}


def domain_of(subject: str) -> str:
    """The domain of a subject; ``unknown`` for one that MMMU does not have."""
    return _DOMAIN_OF.get(subject, "unknown")


def subject_of(sample_id: str) -> str:
    """The subject inside an id such as ``validation_Art_Theory_3``; empty when there is none.

    Example:
        >>> subject_of("validation_Art_Theory_3")
        'Art_Theory'
    """
    head, _, number = sample_id.rpartition("_")
    subject = head.partition("_")[2]
    return subject if number.isdigit() else ""

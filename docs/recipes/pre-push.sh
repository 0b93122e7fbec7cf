#!/bin/sh
# Git hook: nobody promotes a checkpoint on the main branch whose gates do not pass.
#
# A promotion is a commit that changes the pinned baseline:  specs-eval baseline save main dpo/600
# The hook holds the new pin against the one that the remote has, by the policy that the remote has: a push cannot loosen the
# rules that it is judged by. Pushes that change no pin go through at once.
#
# Install:  cp pre-push.sh .git/hooks/pre-push && chmod +x .git/hooks/pre-push
# Settings: SPECS_EVAL_STORE (runs), SPECS_EVAL_PIN (main), SPECS_EVAL_BRANCH (refs/heads/main)
# Let through on purpose:  git push --no-verify
set -eu
store=${SPECS_EVAL_STORE:-runs}
pin=${SPECS_EVAL_PIN:-main}
branch=${SPECS_EVAL_BRANCH:-refs/heads/main}

command -v specs-eval > /dev/null || {
    echo "specs-eval: not installed here, so no gate can be asked" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Fingerprint of the pin in the baseline file of a commit; nothing where it has none.
pinned() {
    git show "$1:specs-eval-baselines.toml" > "$work/pins.toml" 2> /dev/null || return 0
    specs-eval baseline show "$pin" --file "$work/pins.toml" 2> /dev/null | sed -n 's/^fingerprint //p'
}

while read -r _ new_commit remote_branch old_commit; do
    [ "$remote_branch" = "$branch" ] || continue
    # All zeros: the branch is new, or is deleted.
    case "$new_commit$old_commit" in *0000000000000000000000000000000000000000*) continue ;; esac
    if ! git cat-file -e "$old_commit^{commit}" 2> /dev/null; then
        echo "specs-eval: the remote has commits that are not here; git fetch first" >&2
        exit 1
    fi
    old=$(pinned "$old_commit")
    new=$(pinned "$new_commit")
    if [ -z "$old" ] || [ "$old" = "$new" ]; then
        continue
    fi
    if [ -z "$new" ]; then
        echo "specs-eval: this push removes the baseline '$pin'" >&2
        exit 1
    fi
    if ! git show "$old_commit:specs-eval.toml" > "$work/specs-eval.toml" 2> /dev/null; then
        echo "specs-eval: the remote has no policy specs-eval.toml; push one first" >&2
        exit 1
    fi
    echo "specs-eval: baseline '$pin' changes, asking the gates" >&2
    specs-eval check --baseline "$old" --candidate "$new" --store "$store" --policy "$work/specs-eval.toml" >&2 || {
        echo "specs-eval: not pushed" >&2
        exit 1
    }
done

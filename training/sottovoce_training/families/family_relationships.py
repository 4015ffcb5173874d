"""Who is what to whom: a path between two people in a small family tree."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..chain import Chain
from .family import Family

_COUPLE = re.compile(
    r"(\w+) is married to (\w+)\.(?: They have (?:a child|children) called ([^.]+)\.)?"
)
# By what each person on the path is to the next: what the first is to the last, as a woman and as a
# man. The in-laws are worded by the last one, as the family's own answers are.
_WORDS = {
    ("child",): ("daughter", "son"),
    ("parent",): ("mother", "father"),
    ("spouse",): ("wife", "husband"),
    ("parent", "parent"): ("grandmother", "grandfather"),
    ("child", "parent"): ("sister", "brother"),
    ("spouse", "child"): ("mother-in-law", "father-in-law"),
}
_IN_LAW = ("spouse", "child")
_BACK = {"child": "parent", "parent": "child", "spouse": "spouse"}


@dataclass
class _Tree:
    """Who is what to whom."""

    links: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def link(self, a: str, role: str, b: str) -> None:
        """Note that a is the `role` of b."""
        self.links.setdefault(a, []).append((b, role))
        self.links.setdefault(b, []).append((a, _BACK[role]))

    def path(self, start: str, end: str) -> list[tuple[str, str, str]]:
        """The shortest path, as (person, what they are to the next, next)."""
        came: dict[str, tuple[str, str]] = {}
        queue = deque([start])
        while queue:
            person = queue.popleft()
            for other, role in self.links.get(person, []):
                if other != start and other not in came:
                    came[other] = (person, role)
                    queue.append(other)
        steps = []
        while end != start:
            before, role = came[end]
            steps.append((before, role, end))
            end = before
        return steps[::-1]


def _tree(story: str) -> _Tree:
    tree = _Tree()
    for a, b, names in _COUPLE.findall(story):
        tree.link(a, "spouse", b)
        for child in re.findall(r"[A-Z]\w*", names):
            tree.link(a, "parent", child)
            tree.link(b, "parent", child)
    return tree


def _facts(story: str, person: str) -> str:
    """What a story says of a person, in its order."""
    facts = []
    for a, b, names in _COUPLE.findall(story):
        children = re.findall(r"[A-Z]\w*", names)
        if person in (a, b):
            facts.append(f"spouse of {b if person == a else a}")
            facts += [f"parent of {' and '.join(children)}"] if children else []
        elif person in children:
            facts.append(f"child of {a} and {b}")
    return f"of {person}: " + ", ".join(facts)


def solve(entry: Mapping[str, Any]) -> Chain:
    """What is said of both, the path between them, the sex that decides, and the word.

    Names stand behind a space, as they mostly do in the question: the tokens are the same then.
    """
    from reasoning_gym.graphs.family_relationships import FamilyRelationshipsConfig

    data, chain = entry["metadata"], Chain()
    first, last = data["person1"], data["person2"]
    path = _tree(entry["question"]).path(first, last)
    facts = [chain.add(_facts(entry["question"], person)) for person in (first, last)]
    steps = [chain.add(f"so {a} is a {role} of {b}", *facts) for a, role, b in path]
    roles = tuple(role for _, role, _ in path)
    joined = steps[-1]
    if len(path) > 1:
        joined = chain.add(f"so {first} is a {' of a '.join(roles)} of {last}", *steps)
    decides = last if roles == _IN_LAW else first
    is_female = decides in FamilyRelationshipsConfig().female_names
    sex = chain.add(f"and {decides} is {'female' if is_female else 'male'}")
    chain.answer = _WORDS[roles][0 if is_female else 1]
    chain.add(f"the word is {chain.answer}", joined, sex)
    return chain


FAMILY = Family("family_relationships", solve, {"min_family_size": 3, "max_family_size": 4})

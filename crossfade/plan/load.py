"""Read a plan file, and say of every mistake in which line it stands.

Pydantic knows which field is wrong but not where it was written; YAML's node marks know where but not what. `load_plan`
joins the two, so that a user reads `plan.yaml:12: ramp.steps: ...` instead of a traceback.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from crossfade.errors import PlanInvalid
from crossfade.plan.checks import problems
from crossfade.plan.model import Plan
from crossfade.plan.target import VllmOptions


@dataclass(frozen=True)
class PlanSource:
    """A plan together with the text it was read from; `digest` goes into the journal beside it."""

    plan: Plan
    text: str
    origin: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text, so that later edits of the file are seen to change nothing that runs."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_plan(where: str) -> PlanSource:
    """The plan in file `where`, or in `where` itself when that is pasted YAML (it contains a line break).

    Relative paths inside the plan are resolved against the file's folder. Raises PlanInvalid with one line per problem, also
    for addresses that get in each other's way and files the plan names that cannot be used.
    """
    if "\n" in where:
        return _checked(where, origin="pasted plan", folder=Path.cwd())
    path = Path(where)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanInvalid(
            f"{where}: cannot read the plan: {error.strerror or error}. Check the path, or make one with 'crossfade plan init'."
        ) from None
    except UnicodeDecodeError:
        raise PlanInvalid(f"{where}: the plan is not UTF-8 text. Save it as UTF-8.") from None
    return _checked(text, origin=where, folder=path.resolve().parent)


_QUICK: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast, and it has no limit of its own for how deep a text is nested: for plans that the other one has taken before."""


def parse_plan(text: str, *, origin: str, folder: Path) -> PlanSource:
    """The plan that `text` says, its files and addresses not looked at: for plans out of the journal. `origin` names it in messages."""
    return _parse(text, origin, folder, _QUICK)[0]


def _checked(text: str, *, origin: str, folder: Path) -> PlanSource:
    source, root = _parse(text, origin, folder)
    found = problems(source.plan)
    if found:
        lines = (f"{origin}:{_locate(root, problem.field)[0]}: {'.'.join(map(str, problem.field))}: {problem.message}" for problem in found)
        raise PlanInvalid("\n".join(lines))
    return source


def _parse(text: str, origin: str, folder: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> tuple[PlanSource, yaml.Node | None]:
    root, written = _read_yaml(text, origin, loader)
    if not isinstance(written, dict):
        raise PlanInvalid(f"{origin}:1: a plan is a mapping with name, source and models. 'crossfade plan init' writes an example.")
    try:
        plan = Plan.model_validate(written)
    except ValidationError as error:
        raise PlanInvalid("\n".join(_problem(origin, root, item["loc"], item["type"], item["msg"]) for item in error.errors())) from None
    return PlanSource(_resolve_paths(plan, folder), text, origin), root


def _read_yaml(text: str, origin: str, loader: type[yaml.SafeLoader]) -> tuple[yaml.Node | None, object]:
    try:
        opened = loader(text)
        root: yaml.Node | None = opened.get_single_node()
        _refuse_traps(root, origin)
        return root, opened.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PlanInvalid(f"{origin}:{line}: this is not YAML: {error.problem}. Mind indentation and quotes.") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PlanInvalid(f"{origin}:{line}: this is not YAML: there is a character no text file should hold. Remove it.") from None
    except ValueError as error:  # YAML takes 2026-13-40 for a date and then cannot make one of it
        raise PlanInvalid(f"{origin}:1: this is not YAML: {error}. Put the value in quotes.") from None
    except RecursionError:
        raise PlanInvalid(f"{origin}:1: this is nested deeper than any plan. 'crossfade plan init' writes an example.") from None


def _problem(origin: str, root: yaml.Node | None, loc: tuple[int | str, ...], kind: str, message: str) -> str:
    line, path = _locate(root, loc)
    if kind == "missing":
        message = "is required and missing"
    elif kind == "extra_forbidden":
        message = "no such field; see 'crossfade plan schema' for those there are"
    return f"{origin}:{line}: {'.'.join(path) or 'plan'}: {message.removeprefix('Value error, ')}"


def _refuse_traps(root: yaml.Node | None, origin: str) -> None:
    """Refuse what YAML allows and nobody means: a key written twice, of which the last would win without a word, and a value that
    contains itself through an alias and so has no end. Aliases are followed once, however many there are.
    """
    above, done = set[int](), set[int]()

    def walk(node: yaml.Node) -> None:
        if id(node) in above:
            line = node.start_mark.line + 1
            raise PlanInvalid(f"{origin}:{line}: this value contains itself through an alias. Write it out, without & and *.")
        if not isinstance(node, yaml.CollectionNode) or id(node) in done:
            return
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node, origin)
        above.add(id(node))
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                walk(part)
        above.remove(id(node))
        done.add(id(node))

    if root:
        walk(root)


def _refuse_repeated_keys(node: yaml.MappingNode, origin: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
            raise PlanInvalid(f"{origin}:{line}: {key.value}: is written twice, first in line {lines[key.value]}. Keep one.")


def _locate(root: yaml.Node | None, loc: tuple[int | str, ...]) -> tuple[int, list[str]]:
    """Line and path of `loc`, leaving out the parts Pydantic adds (a union's tag) that nobody wrote."""
    line, node, path = (root.start_mark.line + 1 if root else 1), root, list[str]()
    for position, part in enumerate(loc):
        if isinstance(node, yaml.MappingNode):
            entry = next(((key, value) for key, value in node.value if key.value == str(part)), None)
            if entry and isinstance(entry[1], yaml.ScalarNode) and position != len(loc) - 1:
                continue  # a union's tag that is also the name of a field: the kind promql has a field promql
            if entry:
                line, node = entry[0].start_mark.line + 1, entry[1]
            elif position != len(loc) - 1:
                continue
            path.append(str(part))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
            path.append(str(part))
    return line, path


def _resolve_paths(plan: Plan, folder: Path) -> Plan:
    suite = plan.parity.suite
    parity = plan.parity.model_copy(update={"suite": folder / suite}) if suite else plan.parity
    models = tuple(
        model.model_copy(update={"calibration": folder / model.calibration}) if model.calibration else model for model in plan.models
    )
    target = plan.target.model_copy(update={"vllm": _with_absolute_files(plan.target.vllm, folder)})
    drift = plan.drift.model_copy(update={"suite": folder / plan.drift.suite}) if plan.drift.suite else plan.drift
    store = folder / plan.store if plan.store else None
    return plan.model_copy(update={"parity": parity, "drift": drift, "models": models, "target": target, "store": store})


def _with_absolute_files(options: VllmOptions, folder: Path) -> VllmOptions:
    named = {"chat_template": options.chat_template, "api_key_file": options.api_key_file}
    return options.model_copy(update={field: folder / file for field, file in named.items() if file})

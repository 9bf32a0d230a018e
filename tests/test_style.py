"""The text of the project: docstrings, type hints, number format and width of lines."""

import ast
import functools
import importlib
import inspect
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CODE = [*sorted((ROOT / "tinygan").rglob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").glob("*.md")),
         *sorted((ROOT / "tinygan").rglob("*.md"))]
TEXTS = [*CODE, *sorted((ROOT / "tests").rglob("*.py")), *PAGES]
VERBS = set("""Add Append Apply Call Change Check Choose Clip Compute Convert Copy Count Do Download
    Draw End Fill Free Give Keep List Load Lock Make Measure Open Parse Prepare Print Put Raise Read
    Record Remove Replace Restart Restore Return Run Save Set Split Switch Test Train Turn Update
    Wait Write Yield""".split())
pytestmark = pytest.mark.host


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def parse(path):
    """Return the syntax tree of a file, which has the syntax of the oldest Python that we support.

    setup.cfg names it.
    """
    oldest = re.search(r"python_requires = >=3\.(\d+)", (ROOT / "setup.cfg").read_text())
    return ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, int(oldest[1])))


@functools.cache
def definitions(path):
    """List (name, node, class node or None) of the functions and classes of a file, to any depth
    but not inside functions."""
    found = []

    def visit(body, prefix, owner):
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.append((f"{prefix}{node.name}", node, owner))
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.", node)
    visit(parse(path).body, "", None)
    return found


def is_public(name):
    return not any(part.startswith("_") for part in name.split("."))


def bases_with(path, name):
    """Return whether a base class of the class in a dotted name defines the method, documented and
    annotated: then an override inherits both."""
    module = name_of(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    if module.startswith("tinygan."):
        importlib.import_module(module)
    if module not in sys.modules:       # an example; its classes derive from tinygan's
        sys.path.insert(0, str(path.parent))
        try:
            module = __import__(path.stem).__name__
        finally:
            sys.path.remove(str(path.parent))
    cls = sys.modules[module]
    *parts, method = name.split(".")
    for part in parts:
        cls = getattr(cls, part)
    return any(method in vars(base) and vars(base)[method].__doc__ for base in cls.__mro__[1:]
               if base.__module__.startswith("tinygan"))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_public_functions_have_docstrings_and_type_hints(path):
    tree = parse(path)
    assert ast.get_docstring(tree), "the module has no docstring"
    for name, node, owner in definitions(path):
        is_init = node.name == "__init__"
        if not is_public(name.removesuffix(".__init__")):
            continue
        if isinstance(node, ast.FunctionDef) and owner is not None and not is_init and \
                bases_with(path, name):
            continue
        if not is_init and "setter" not in ast.unparse(node).split("def ")[0]:
            assert ast.get_docstring(node), f"{name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            if owner is not None:
                arguments = arguments[1:]
            bare = [a.arg for a in arguments if a.annotation is None]
            assert not bare, f"{name} has no type hint for {bare}"
            assert node.returns is not None, f"{name} has no type hint for what it returns"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_the_first_line_of_a_docstring_stands_alone(path):
    """It is one sentence, and what follows it is set off by an empty line."""
    tree = parse(path)
    for name, node in [("the module", tree), *((name, node) for name, node, _ in
                                               definitions(path))]:
        if text := ast.get_docstring(node):
            first, *rest = text.splitlines()
            assert first.endswith((".", "?")) or first.endswith(":") and rest, f"{name}: {first!r}"
            assert not rest or not rest[0], f"{name}: no empty line after {first!r}"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_the_first_word_of_a_function_docstring_is_a_verb(path):
    """It is an imperative: one of VERBS."""
    for name, node, _ in definitions(path):
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)) and \
                "property" not in decorators:
            assert re.match(r"\w*", text)[0] in VERBS, (
                f"{name}: {text[:60]!r} (a new verb goes into VERBS)")


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_numbers_begin_with_a_digit(path):
    """So 0.49 without its 0 is nowhere: in code, comments, messages and pages."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert not re.search(r"""(?<![\w.)\]}"':<>%\\])\.\d""", line), f"{number}: {line.strip()}"


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_lines_are_at_most_100_wide(path):
    """Rows of a page's tables and its pictures cannot be broken."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= 100 or path.suffix == ".md" and line.startswith(("|", "![")), number


def test_the_syntax_is_that_of_the_oldest_python():
    for path in TEXTS:
        if path.suffix == ".py":
            parse(path)


def test_what_is_imported_is_used():
    for path in CODE:
        tree = parse(path)
        imported = {(alias.asname or alias.name).partition(".")[0] for node in ast.walk(tree)
                    if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert path.name == "__init__.py" or imported <= used, (path, imported - used)


def test_every_test_has_a_reason_to_be_skipped():
    """pytest prints the reasons (-rs in setup.cfg)."""
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(parse(path)):
            name = getattr(node.func, "attr", "") if isinstance(node, ast.Call) else ""
            if name in ("skip", "importorskip"):
                assert node.args or node.keywords, path
            if name == "skipif":
                assert any(keyword.arg == "reason" for keyword in node.keywords), path


def test_public_names_of_the_package_are_documented():
    """What `import tinygan` offers has a docstring."""
    import tinygan
    for name, thing in vars(tinygan).items():
        if not name.startswith("_") and callable(thing):
            assert inspect.getdoc(thing), name

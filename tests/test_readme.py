"""The README is true: its map leads where it says, its code runs, its commands are those of CI."""

import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import numpy as np
import pytest

import tinygan
from tinygan import checkpoint, nn, optim
from tinygan.data import Minibatches
from tinygan.games import GAN
from tinygan.games.catalogue import GAMES

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    (python3 .*)$", README, re.M)
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)


def rows(head):
    """The cells of the table below the line that begins with `head`."""
    table = README.split(f"\n{head}", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()[2:]]


@pytest.mark.host
def test_map_leads_to_the_code(monkeypatch):
    """Each row's object exists and holds the phrases in quotation marks, and the paper's name or,
    in the rows below it, the same one's."""
    monkeypatch.syspath_prepend(str(ROOT))
    paper = None
    for name, there, here in rows("| paper | there"):
        paper = name or paper
        path = here.strip("`")
        source = inspect.getsource(resolve(path))
        phrases = re.findall('"(.*?)"', there)
        assert phrases, there
        for phrase in phrases:
            assert phrase in source, f"{phrase!r} does not stand in {path}"
        module = inspect.getsource(sys.modules[resolve(path).__module__]) if "." in path and \
            not inspect.ismodule(resolve(path)) else source
        for word in (re.match(r"\w+", paper)[0], re.search(r"\d{4}", paper)[0]):
            assert word in module, f"{path} does not name {paper}"


@pytest.mark.host
def test_each_game_of_the_catalogue_has_its_paper_in_the_map():
    """A row of it leads to the file of the game's class."""
    leads, paper = {}, None
    for name, _, here in rows("| paper | there"):
        paper = name or paper
        leads.setdefault(paper, []).append(here.strip("`"))
    for name, entry in GAMES.items():
        file = entry.game.__module__
        assert any(f"{here}.".startswith(f"{file}.") for here in leads.get(entry.paper, [])), (
            f"no row of {entry.paper} leads to {file}, where the game {name!r} is")


def resolve(path):
    """The module, class, function or method of a dotted path."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            thing = getattr(thing, name)
        return thing
    raise AssertionError(f"{path} leads nowhere")


@pytest.mark.host
def test_pictures_are_there_and_small():
    """Whoever opens the page loads them."""
    pictures = [ROOT / path for path in re.findall(r"!\[.*?\]\((.*?)\)", README)]
    assert len(pictures) == 3 and sum(path.stat().st_size for path in pictures) < 300_000


@pytest.mark.host
def test_tables_are_those_of_the_results_file(monkeypatch):
    """Whoever runs `reproduce.py TABLE --show` sees what the README says."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import reproduce
    lines = reproduce.read_results(ROOT / "examples" / "results.jsonl")
    assert lines
    for table in {line["table"] for line in lines}:
        assert reproduce.shown(table, lines) in README, f"{table} is another"


@pytest.mark.host
def test_every_file_is_in_the_reading_order():
    listed = " ".join(cell for row in rows("| file |") for cell in row[:1])
    for path in [*(ROOT / "tinygan").glob("**/*.py"), *(ROOT / "examples").glob("*.py")]:
        folder = path.parent.relative_to(ROOT).as_posix() + "/"
        assert path.name == "__init__.py" or path.name in listed or f"`{folder}`" in listed, path


@pytest.mark.host
def test_files_import_only_from_those_before():
    """The order in which the README says to read them."""
    cells = " ".join(row[0] for row in rows("| file |"))
    order = list(dict.fromkeys(re.findall(r"`(?:tinygan/)?(\w+)(?:\.py|/)", cells)))
    for path in (ROOT / "tinygan").glob("**/*.py"):
        parts = path.relative_to(ROOT / "tinygan").with_suffix("").parts
        if parts == ("__init__",):
            continue
        up = "." * len(parts)
        text = path.read_text()
        used = set(re.findall(rf"^from {re.escape(up)}(\w+) import", text, re.M))
        for names in re.findall(rf"^from {re.escape(up)} import (.*)$", text, re.M):
            used |= {name.strip() for name in names.split(",")}
        assert used <= set(order), (path, used)
        later = {name for name in used if order.index(name) >= order.index(parts[0])}
        assert not later, f"{path} imports {later}"


@pytest.mark.host
def test_every_module_is_the_attribute_of_its_name():
    """No function of its name hides a module, and `import tinygan` is enough to reach each."""
    names = [module.name for module in pkgutil.walk_packages(tinygan.__path__, "tinygan.")]
    assert {"tinygan.runs.image", "tinygan.networks.dcgan", "tinygan.metrics.parzen"} <= {*names}
    program = """import sys, tinygan
for name in sys.argv[1:]:
    package, _, last = name.rpartition(".")
    if name not in sys.modules or getattr(sys.modules[package], last) is not sys.modules[name]:
        print(name)"""
    process = subprocess.run([sys.executable, "-c", program, *names],
                             capture_output=True, text=True)
    assert process.stdout + process.stderr == ""


@pytest.fixture
def a_run(tmp_path, monkeypatch):
    """The folder that the README's first command leaves, with a small game."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("runs/gan_mnist")
    game = GAN(nn.Sequential(nn.Dense(4, 784), nn.Sigmoid(), nn.Reshape(1, 28, 28)),
               nn.Sequential(nn.Flatten(), nn.Dense(784, 1)), 4)
    opts = {"d_opt": optim.Adam(game.d_parameters()), "g_opt": optim.Adam(game.g_parameters())}
    batches = Minibatches(np.full((10, 1, 28, 28), 255, np.uint8), 5)
    checkpoint.save("runs/gan_mnist/checkpoint.npz", game, opts, batches, {}, {})


# test_against_torch.py runs the one that needs PyTorch
@pytest.mark.parametrize("number", [i for i, block in enumerate(BLOCKS)
                                    if "import torch" not in block])
def test_code_runs(number, a_run):
    exec(BLOCKS[number], {"__name__": "readme"})


@pytest.mark.host
def test_the_second_block_samples_from_a_run(a_run):
    exec(BLOCKS[1], {"__name__": "readme"})
    assert "tinygan.load" in BLOCKS[1] and os.path.getsize("grid.png") > 0


@pytest.mark.host
def test_commands():
    """The first trains, the second tests, and CI runs the second."""
    train, test = COMMANDS
    assert train.endswith("python examples/gan_mnist.py") and test.endswith("python -m pytest")
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()

"""The pages are true: maps lead to the code, code runs, commands are CI's, tables are generated."""

import ast
import importlib
import inspect
import itertools
import os
import pathlib
import pkgutil
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import tinygan
from tinygan import Tensor, nn, optim, play, rng, to_numpy
from tinygan.data import Minibatches
from tinygan.games import GAN, Game
from tinygan.games.catalogue import GAMES
from tinygan.random import Random

from helpers import call_script, normal, tensor
from test_run import same_files

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {path: (ROOT / path).read_text(encoding="utf-8")
         for path in ("README.md", "examples/README.md", "examples/results.md",
                      "tinygan/games/README.md", "tinygan/runs/README.md")}
README, *_, GAMES_PAGE, RUNS_PAGE = PAGES.values()
COMMANDS = re.findall(r"^    (python3 .*)$", README, re.M)


def find_blocks(page):
    """Return the blocks of Python on a page."""
    return re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)


BLOCKS, TEMPLATES = find_blocks(README), find_blocks(GAMES_PAGE)


def read_rows(page, head):
    """Return the cells of the table whose first line begins with `head`."""
    lines = page.split(f"\n{head}", 1)[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]


def import_example(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module(name)


def resolve(path):
    """Return the module, class, function or method at a dotted path."""
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


# The map from equations to functions

@pytest.mark.host
def test_map_leads_to_the_code(monkeypatch):
    """The object of each row exists, its source has the row's phrases in quotation marks, and its
    file names the paper."""
    for folder in ROOT, ROOT / "examples":      # some examples import others
        monkeypatch.syspath_prepend(str(folder))
    paper = None
    for name, equation, function in read_rows(GAMES_PAGE, "| paper | equation"):
        paper = name or paper
        path = function.strip("`")
        source = inspect.getsource(resolve(path))
        phrases = re.findall('"(.*?)"', equation)
        assert phrases, equation
        for phrase in phrases:
            assert phrase in source, f"{phrase!r} is not in {path}"
        module = inspect.getsource(sys.modules[resolve(path).__module__]) if "." in path and \
            not inspect.ismodule(resolve(path)) else source
        for word in (re.match(r"\w+", paper)[0], re.search(r"\d{4}", paper)[0]):
            assert word in module, f"{path} does not name {paper}"


@pytest.mark.host
def test_each_game_of_the_catalogue_has_its_paper_in_the_map():
    """A row of the paper leads to the file of the game's class."""
    functions, paper = {}, None
    for name, _, function in read_rows(GAMES_PAGE, "| paper | equation"):
        paper = name or paper
        functions.setdefault(paper, []).append(function.strip("`"))
    for name, entry in GAMES.items():
        file = entry.game.__module__
        assert any(f"{function}.".startswith(f"{file}.")
                   for function in functions.get(entry.paper, [])), (
            f"no row of {entry.paper} leads to {file}, where the game {name!r} is")


@pytest.mark.host
def test_the_table_of_losses_has_each_game():
    named = {row[0].strip("`") for row in read_rows(GAMES_PAGE, "| game | D minimises")}
    assert named == {entry.game.__name__ for entry in GAMES.values()}


@pytest.mark.host
def test_the_hooks_in_the_table_are_those_of_game():
    """Each exists, and each public method that a game may override is there."""
    from tinygan.games import Game
    named = {name.rstrip("=") for row in read_rows(GAMES_PAGE, "| method or attribute")
             for name in re.findall(r"`(\w+=?)`", row[0])}
    settable = set(inspect.signature(Game).parameters) | set(dir(Game))
    assert named <= settable
    internal = {"check", "check_minibatch", "outputs", "score", "d_loss", "g_loss", "losses",
                "log", "log_scores", "sample", "sample_images",
                "draw_samples", "overrides", "begin_iteration", "update_averages", "keep_average",
                "use_averages", "touch", "measure_averages",
                "d_parameters", "g_parameters", "train"}
    methods = {name for name, value in vars(Game).items()
               if isinstance(value, types.FunctionType) and not name.startswith("_")}
    assert methods - internal <= named and internal <= methods


# Tables and pictures

@pytest.mark.host
def test_tables_are_not_emptied_without_results(monkeypatch):
    """pages.py writes nothing if the file of results is missing."""
    pages = import_example("pages", monkeypatch)
    monkeypatch.setattr(pages.reproduce, "read_results", lambda path: [])
    monkeypatch.setattr(pages, "write_text", lambda path, text: pytest.fail("a page was written"))
    monkeypatch.setattr(sys, "argv", ["pages.py"])
    with pytest.raises(pages.UserError, match="results.jsonl is missing"):
        pages.main()


@pytest.mark.host
def test_tables_are_those_of_the_results_file(monkeypatch, capsys):
    """`pages.py` would change nothing, and each table is on a page."""
    pages = import_example("pages", monkeypatch)
    lines = pages.reproduce.read_results(ROOT / "examples" / "results.jsonl")
    assert lines
    for path, page in PAGES.items():
        assert pages.fill_page(page, lines) == page, f"{path} is out of date: run pages.py"
    monkeypatch.setattr(sys, "argv", ["pages.py", "--dry-run"])
    pages.main()
    assert capsys.readouterr().out == "".join(f"{path}: unchanged\n" for path in pages.PAGES)
    generated = re.findall(r"<!-- begin: (.*?) -->", "".join(PAGES[path] for path in pages.PAGES))
    assert sorted(generated) == sorted({"papers", "gallery", *(line["table"] for line in lines)})


@pytest.mark.host
def test_each_paper_of_the_table_has_its_file_and_its_command(monkeypatch):
    """The README's rows name files that exist and commands whose scripts exist; each game of the
    catalogue is in one of the files."""
    pages = import_example("pages", monkeypatch)
    files = set()
    for paper, file, command, figure in read_rows(README, "| paper | file"):
        files.add(re.search(r"`(.*?)`", file)[1])
        script = re.search(r"`(.*?)`", command)[1].split()[1]
        assert (ROOT / script).exists() and figure and re.search(r"\d{4}", paper)
    assert all((ROOT / file).exists() for file in files)
    for entry in GAMES.values():
        path = pathlib.Path(inspect.getfile(entry.game)).relative_to(ROOT).as_posix()
        assert path in files, f"{path} is in no row"
    assert len(read_rows(README, "| paper | file")) == len(pages.PAPERS)


@pytest.mark.host
def test_pictures_and_links_exist_and_are_small():
    """A page loads at most 400 kB of pictures, and all of its links lead to files."""
    for path, page in PAGES.items():
        folder = (ROOT / path).parent
        pictures = [folder / link for link in re.findall(r"!\[.*?\]\((.*?)\)", page)]
        assert sum(picture.stat().st_size for picture in pictures) < 400_000, path
        for link in re.findall(r"[^!]\[.*?\]\((.*?)\)", page):
            file, _, heading = link.partition("#")
            if "://" not in link:
                target = folder / file if file else ROOT / path
                assert target.exists(), link
                headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
                assert not heading or heading in [
                    re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings]
    pictures = {path.name for path in (ROOT / "examples" / "pictures").iterdir()}
    assert all(any(re.search(rf"(?<!\w){re.escape(name)}", page) for page in PAGES.values())
               for name in pictures)


# The order of the files

@pytest.mark.host
def test_results_of_other_commands_are_not_shown(monkeypatch):
    pages = import_example("pages", monkeypatch)
    lines = pages.reproduce.read_results(ROOT / "examples" / "results.jsonl")
    assert "not measured yet" not in pages.make_papers(lines)
    old = pages.make_papers([{**line, "command": ["gan_mnist.py"]} for line in lines])
    assert old.count("not measured yet") == len(pages.PAPERS)
    monkeypatch.setattr(pages, "PAPERS", [("New 2025: X", "tinygan/games/x.py", "mnist", "X")])
    with pytest.raises(pages.UserError, match="reproduce.py has no row 'X' in the table 'mnist'"):
        pages.make_papers(lines)


@pytest.mark.host
def test_the_gallery_has_the_pictures_of_the_runs_that_are_there(tmp_path, monkeypatch, capsys):
    pages = import_example("pages", monkeypatch)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "examples" / "pictures").mkdir(parents=True)
    G = nn.Sequential(nn.Dense(3, 16), nn.Sigmoid(), nn.Reshape(1, 4, 4))
    D = nn.Sequential(nn.Flatten(), nn.Dense(16, 1))
    images = Minibatches(np.random.default_rng(0).uniform(size=(8, 1, 4, 4)), 4)
    tinygan.Run(tmp_path / "GAN-1", GAN(G, D, 3), images,
                [optim.Adam(net.parameters()) for net in (D, G)], 1).play()
    pages.save_gallery(tmp_path)
    assert os.listdir(tmp_path / "examples" / "pictures") == ["gan.png"]
    told = capsys.readouterr().out
    assert "labels.png: left as it is, since there is no run in" in told
    assert "\ngan.png:" not in told
    assert pages.make_gallery().splitlines()[0] == "| GAN |"


@pytest.mark.host
def test_the_readme_is_short():
    """Without the generated table, which has a row for each paper."""
    text = re.sub(r"<!-- begin: .*?<!-- end -->", "", README, flags=re.S)
    assert len(text.splitlines()) <= 227


@pytest.mark.host
def test_every_file_is_in_the_reading_order():
    listed = " ".join(row[1] for row in read_rows(README, "| step | file"))
    for path in [*(ROOT / "tinygan").glob("**/*.py"), *(ROOT / "examples").glob("*.py")]:
        folders = [f"`{each.as_posix()}/`" for each in path.relative_to(ROOT).parents]
        is_listed = re.search(rf"(?<!\w){re.escape(path.name)}", listed)
        assert path.name == "__init__.py" or is_listed or any(
            folder in listed for folder in folders), path


@pytest.mark.host
def test_modules_import_only_from_those_before():
    """The order is that of the package's docstring. An import in a function is not counted."""
    order = re.findall(r"\w+", tinygan.__doc__.partition("before it:")[2])
    for path in (ROOT / "tinygan").glob("**/*.py"):
        parts = path.relative_to(ROOT / "tinygan").with_suffix("").parts
        if parts == ("__init__",):
            continue
        used = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.level == len(parts):
                used |= ({node.module.split(".")[0]} if node.module else
                         {name.name for name in node.names})
        assert used <= set(order), (path, used)
        later = {name for name in used if order.index(name) >= order.index(parts[0])}
        assert not later, f"{path} imports {later}"


@pytest.mark.host
def test_every_module_is_the_attribute_of_its_name():
    """No function hides a module of its name; `import tinygan` imports all but those of a GPU."""
    names = [module.name for module in pkgutil.walk_packages(tinygan.__path__, "tinygan.")
             if module.name not in ("tinygan.cuda", "tinygan.graphs")]
    assert {"tinygan.runs.image", "tinygan.networks.dcgan", "tinygan.metrics.parzen"} <= {*names}
    program = """import sys, tinygan
for name in sys.argv[1:]:
    package, _, last = name.rpartition(".")
    if name not in sys.modules or getattr(sys.modules[package], last) is not sys.modules[name]:
        print(name)"""
    process = subprocess.run([sys.executable, "-c", program, *names],
                             capture_output=True, text=True)
    assert process.stdout + process.stderr == ""


# Code and commands

def test_the_code_runs_in_its_order(tmp_path, monkeypatch, capsys):
    """test_against_torch.py runs the block that needs PyTorch."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for block in BLOCKS:
        if "import torch" not in block:
            exec(block.replace("5000", "50").replace("1000 == 0", "10 == 0"), names)
    assert re.search(r"losses 1\.\d+, 0\.\d+; modes \d  HQ", capsys.readouterr().out)
    assert names["points"].shape == (1000, 2) and os.path.getsize("grid.png") > 0
    assert names["game"].G.training is False        # load() returns a game in evaluation mode


def test_the_game_in_twenty_lines_has_about_twenty_lines():
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 22


def find_template(words):
    """Return the one block of code on the games' page that has these words."""
    (found,) = [each for each in TEMPLATES if words in each]
    return found


def load_template(name):
    """Return the names that the template of the class `name` on the games' page defines."""
    module = types.ModuleType("template")
    sys.modules["template"] = module        # dataclasses look their module up
    try:
        exec(find_template(f"class {name}("), vars(module))
    finally:
        del sys.modules["template"]
    return module


@pytest.mark.numpy_only("networks of full size; test_contract.py tests each backend")
def test_the_stages_of_the_page_of_runs(tmp_path, monkeypatch):
    """Resumed at its end, the last stage has the samples of the game that was trained."""
    monkeypatch.chdir(tmp_path)
    names, (*_, block) = {"Run": tinygan.Run, "optim": optim}, find_blocks(RUNS_PAGE)
    block = block.replace("steps=10", "steps=1")
    exec(block, names)
    assert names["game"].stage == 2
    z = names["game"].latent(2, rng)
    samples = names["game"].sample(z)
    exec(block.replace("overwrite", "resume"), names)
    assert (names["game"].sample(z) == samples).all()
    assert {path.name for path in (tmp_path / "runs" / "stages").iterdir()} == {"0", "1", "2"}


def test_the_page_of_runs_is_right(tmp_path, monkeypatch, capsys):
    """Its run is resumed byte for byte, and its optimiser takes the steps of its equations."""
    monkeypatch.chdir(tmp_path)
    *parts, last, _ = find_blocks(RUNS_PAGE)
    names = {"__name__": "runs_page"}
    exec("".join(parts), names)
    last = last.replace("steps=2000", "steps=30")
    rng.seed(0)
    exec(last, names)
    assert names["data"].position == 30 * 8 * 16 % 1000

    def stop(run, step, measure=names["Measured"].measure):
        if step == 17:
            signal.raise_signal(signal.SIGINT)
        return measure(run, step)
    last = last.replace("runs/own", "runs/parts")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(names["Measured"], "measure", stop)
        rng.seed(0)
        exec(last, names)
    exec(last.replace("overwrite", "resume"), names)
    assert same_files(tmp_path / "runs" / "own", tmp_path / "runs" / "parts")
    game = tinygan.load("runs/parts", names["Best"], names["RunningScale"])
    assert game.best == names["game"].best > 0
    points = game.best_G(game.latent(1000, Random(0))).data
    assert tinygan.metrics.measure_coverage(points, names["ring"]).quality == game.best

    start, gs = normal(3, 4), [normal(3, 4, seed=seed) for seed in (1, 2, 3)]
    gs[1] *= 0.1                # its norm is below the limit
    for kind, limit in ((names["Lion"], np.inf), (names["ClippedLion"], 1.0)):
        p, expected, m = tensor(start), start.copy(), 0.0
        opt = kind([p], 0.1, warm_up=2)
        for t, g in enumerate(gs):
            opt.step([tensor(g)])
            g = g * min(1.0, limit / np.linalg.norm(g))
            expected -= 0.1 * min(1.0, (t + 1) / 2) * np.sign(0.9 * m + (1 - 0.9) * g)
            m = 0.99 * m + (1 - 0.99) * g
        assert p.numpy() == pytest.approx(expected, rel=1e-12)      # rounding of float64
        assert to_numpy(opt.state["m"][0]) == pytest.approx(m, rel=1e-9)    # limit / norm rounds


def check_it_trains(game):
    d_opt, g_opt = (optim.Adam(p, 1e-3) for p in (game.d_parameters(), game.g_parameters()))
    data = Minibatches(np.random.default_rng(0).normal(size=(20, 2)), 5, Random(3))
    for _, d_loss, g_loss in play(game, data, d_opt, g_opt, 5, Random(4), iterations=20):
        assert np.isfinite(d_loss.item()) and np.isfinite(g_loss.item())


def make_players():
    return nn.Sequential(nn.Dense(3, 2)), nn.Sequential(nn.Dense(2, 8), nn.Tanh(), nn.Dense(8, 1))


# float32 sums of a few numbers of size 1
CLOSE = dict(abs=1e-6)


def test_the_template_of_a_loss_is_right_and_trains():
    """Its losses are the boundary-seeking GAN's, by their formulas."""
    game = load_template("BGAN").BGAN(*make_players(), 3)
    x, z = Tensor(Random(1).normal((5, 2))), game.latent(5, Random(2))
    real, fake = (1 / (1 + np.exp(-game.D(a).numpy())) for a in (x, game.G(z)))
    assert game.d_loss(x, z).item() == pytest.approx(
        -np.log(real).mean() - np.log(1 - fake).mean(), **CLOSE)
    assert game.g_loss(x, z).item() == pytest.approx(
        ((np.log(fake) - np.log(1 - fake)) ** 2).mean() / 2, **CLOSE)
    check_it_trains(game)


def test_the_run_of_the_template_can_be_loaded(tmp_path, monkeypatch):
    """As the page says, load() takes the class of the game, or that of the loss."""
    monkeypatch.chdir(tmp_path)
    template = load_template("BGAN")
    text = find_template("Run(").replace("steps=200", "steps=2")
    names = {"BGAN": template.BGAN}
    exec(text, names)
    game = tinygan.load("runs/bgan", template.BGAN)
    assert type(game) is template.BGAN
    z = game.latent(2, Random(1))
    np.testing.assert_array_equal(to_numpy(game.sample(z)), to_numpy(names["game"].sample(z)))
    names["BGAN"] = lambda G, D, z_size: Game(G, D, z_size, loss=template.BoundarySeeking())
    exec(text.replace("runs/bgan", "runs/other"), names)
    assert tinygan.load("runs/other", template.BoundarySeeking).loss == template.BoundarySeeking()


def test_the_template_of_a_term_is_right_and_trains():
    """Its term is added to the GAN's loss of D, and a negative weight is refused."""
    template = load_template("CRGAN")
    game = template.CRGAN(*make_players(), 3, lam=0.5)
    x, z = Tensor(Random(1).normal((5, 2))), game.latent(5, Random(2))
    term = ((game.D(x).numpy() - game.D(Tensor(x.data[:, ::-1])).numpy()) ** 2).mean()
    plain = GAN(game.G, game.D, 3)
    assert game.d_loss(x, z).item() == pytest.approx(plain.d_loss(x, z).item() + 0.5 * term,
                                                     **CLOSE)
    assert game.g_loss(x, z).item() == plain.g_loss(x, z).item()
    check_it_trains(game)
    with pytest.raises(tinygan.UserError, match="at least 0, got -1"):
        template.CRGAN(*make_players(), lam=-1)


def test_the_template_of_a_penalty_is_right_and_trains():
    """For a D that is a square, |dD/dx| is 2 |x|, here at points by the data."""
    penalty = load_template("DRAGAN").DRAGAN(lam=3.0, sigma=0.5)
    x = Tensor(Random(1).normal((5, 2)))
    with nn.use_random(Random(7)):
        term = penalty(lambda x: (x * x).sum(1, keepdims=True), x, None, None, None)
    values = x.numpy()
    points = values + 0.5 * to_numpy(Random(7).normal((5, 2)))
    slopes = np.linalg.norm(2 * points, axis=1)
    assert term.item() == pytest.approx(3 * ((slopes - 1) ** 2).mean(), rel=1e-5)   # float32
    game = GAN(*make_players(), 3, penalties=[penalty])
    x, z = Tensor(Random(1).normal((5, 2))), game.latent(5, Random(2))
    assert game.d_loss(x, z).item() > GAN(game.G, game.D, 3).d_loss(x, z).item()
    check_it_trains(game)


@pytest.mark.host
def test_commands():
    """The first trains, the second tests, and CI runs the second."""
    train, test = COMMANDS
    assert train.endswith("python examples/gan_mnist.py") and test.endswith("python -m pytest")
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.host
def test_the_scripts_and_flags_in_commands_exist():
    """Each `examples/x.py --flag` on a page is a script with that flag."""
    commands = {command for page in PAGES.values()
                for command in re.findall(r"(examples/\w+\.py[^`|\n]*)", page)
                if "-->" not in command}
    assert len(commands) > 15
    flags = {}
    for command in commands:
        script, *words = command.split()
        flags.setdefault(script, set()).update(word for word in words if word.startswith("--"))

    for script, named in flags.items():
        helped = call_script(ROOT, ROOT / script, "--help").stdout
        assert named <= set(re.findall(r"--[\w-]+", helped)), script

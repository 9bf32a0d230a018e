"""What a script saves with its run: the flags, the data, and how to find them again."""

import argparse
import contextlib
import dataclasses
import hashlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ... import data, nn
from ...backend import UserError
from ...games import Game
from ...numbers import is_whole
from .. import checkpoint
from ..run import refuse_runs

# flags that are no settings of the run
NOT_SAVED = {"out", "resume", "overwrite", "dry_run"}


def make_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the content of settings.json for a run with these flags, without the versions."""
    left_out = NOT_SAVED | {"loaded", "first"}
    first = {"first": args.first} if "first" in args else {}
    return {"script": script_name(),
            "flags": {name: value for name, value in vars(args).items() if name not in left_out},
            "data": {"place": args.loaded.place,
                     "shape": list(args.loaded.train.images.shape),
                     **_find_digests(args.loaded), **first}}


def _find_digests(loaded):
    """Return the checksums of the training data, and of the validation and test data."""
    held_out = {f"{part}.{name}": array for part in ("valid", "test")
                for name, array in getattr(loaded, part).items()}
    return {"sha256": digest(loaded.train), "held_out_sha256": digest(held_out)}


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a checksum of {name: array}, such as training images and labels."""
    found = hashlib.sha256()
    for _, array in sorted(arrays.items()):
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array))
    return found.hexdigest()[:16]


def find_run(folder: str) -> str:
    """Return `folder` if it holds a run, or else the first of its sub-folders that holds a stage.

    Raises UserError if there is none.
    """
    if os.path.exists(os.path.join(folder, checkpoint.NAME)):
        return folder
    runs = list_runs(folder)
    for path in runs:
        with contextlib.suppress(UserError):        # a run that was not started by a script
            if "stage" in read(path).about["settings"]:
                return path
    raise UserError(f"there is no run in {folder} to resume" + (
        f", but there is one in {runs[0]}: give its folder by --out" if runs else
        ": check --out, or leave --resume out to start a run"))


def list_runs(folder: str) -> list[str]:
    """List the paths of the sub-folders of `folder` that hold a run, such as its stages."""
    return sorted(entry.path for entry in os.scandir(folder) if os.path.exists(
        os.path.join(entry.path, checkpoint.NAME))) if os.path.isdir(folder) else []


def list_stages(folder: str) -> list[str]:
    """List the paths of the stages in `folder` that this script has started."""
    found = []
    for path in list_runs(folder):
        with contextlib.suppress(UserError):        # a run that was not started by a script
            settings = read(path).about["settings"]
            if settings["script"] == script_name() and "stage" in settings:
                found.append(path)
    return found


def read(folder: str) -> checkpoint.Checkpoint:
    """Return the checkpoint of the run in `folder`.

    Raises UserError if it cannot be read, or if the run was not started by a script that uses this
    module.
    """
    saved = checkpoint.read(os.path.join(folder, checkpoint.NAME))
    match saved.about.get("settings"):
        case {"script": str(), "flags": dict()} as settings if _find_data(settings):
            return saved
    raise UserError(f"{saved.path} is of a run that was made in Python or by mixtures.py: resume "
                    "it in the same way as it was started")


def read_data(folder: str) -> dict[str, Any] | None:
    """Return what is known of the data of the run in `folder`, or None if nothing is.

    It is the entry "data" of settings.json, see make_settings(). A run that was made in Python has
    none.
    """
    return _find_data(checkpoint.read(os.path.join(folder, checkpoint.NAME)).about.get("settings"))


def _find_data(settings):
    """Return the entry "data" of a run's settings, or None if it is missing or incomplete."""
    match settings:
        case {"data": {"place": str(), "shape": [_, *_], "sha256": str()} as found}:
            numbers = [*found["shape"], found.get("first", 1)]
            return found if all(is_whole(n, 1) for n in numbers) else None
    return None


def script_name() -> str:
    """Return the name of the running script."""
    return os.path.basename(sys.argv[0])


def load_data(folder: str, path: str | None = None) -> data.DataSet:
    """Load the data on which the run in `folder` was trained.

    `path` is where the data is now, if it has moved or the run was made in Python. Raises UserError
    if it is not there, is not known, or is not the same data.
    """
    then = read_data(folder)
    if then is None and not path:
        raise UserError(f"the run in {folder} was made in Python or by mixtures.py, so its data is "
                        "not known: give it by --data (mixtures.py measures its samples itself)")
    task, _ = data.tasks.split_place(then["place"] if then else "")
    if path and task and data.tasks.split_place(path)[0] != task:
        path = f"{task}:{path}"                         # the data of a task has moved
    loaded = data.load(path or then["place"])
    check_same(folder, then, loaded)
    first = then and then.get("first")      # the run was trained on so many of the images
    return loaded._replace(train=loaded.train.part(slice(first))) if first else loaded


def check_same(folder: str, then: dict[str, Any] | None, loaded: data.DataSet) -> None:
    """Raise UserError if the data of the run in `folder` is known to be other data.

    `then` is what is known of the run's data, from read_data().
    """
    if not then:
        return
    now = _find_digests(loaded)
    for name, differs in (("sha256", "was trained on other data"),
                          ("held_out_sha256", "has other validation or test data")):
        if then.get(name, now[name]) != now[name]:      # older runs have only the first
            raise UserError(f"the run in {folder} {differs} than that of {loaded.place}: leave "
                            "--data out, or give the place to which the data of "
                            f"{then['place']} has moved")


def load(run: str, modules: Iterable[str] = ()) -> Game:
    """Return the game of the run in the folder `run`, from its last checkpoint; see tinygan.load.

    `modules` are the paths of Python files, which are executed. The game may use the functions that
    they define, and the classes that they define or import.
    """
    return checkpoint.load(run, *list_known(modules))


def list_known(modules: Iterable[str]) -> list[type | Callable]:
    """List what the Python files `modules` define for load(), each once."""
    return list(dict.fromkeys(thing for path in modules for thing in _list_defined(path)))


def _list_defined(path):
    """List the functions that a Python file defines, and its Module classes and dataclasses."""
    name, suffix = os.path.splitext(os.path.basename(path))     # a checkpoint names the script so
    if not (os.path.isfile(path) and suffix == ".py"):
        raise UserError(f"{path} is no Python file: give by --module the script of the run, or the "
                        "file with its classes")
    here, module = os.path.realpath(path), sys.modules.get(name)
    sys.path.insert(0, os.path.dirname(here))           # as when the file runs as a script
    try:
        if module is None:              # import_module() would split a name at its dots
            spec = importlib.util.spec_from_file_location(name, path)
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            with refuse_runs(path):
                spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)     # a part of a module
        if isinstance(error, (OSError, SyntaxError)):   # others have a traceback to the file's line
            raise UserError(f"{path} cannot be imported: {type(error).__name__}: {error}"
                            ) from error
        raise
    finally:
        sys.path.remove(os.path.dirname(here))
    if os.path.realpath(getattr(module, "__file__", None) or "") != here:
        raise UserError(f"another module has the name of {path}, and Python cannot import both: "
                        "give the file another name")
    return [thing for thing in vars(module).values() if (
        isinstance(thing, types.FunctionType) and thing.__module__ == module.__name__
        or isinstance(thing, type) and (issubclass(thing, nn.Module)
                                        or dataclasses.is_dataclass(thing)))]

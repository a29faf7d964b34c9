"""Compiles the hot path into the wheel: the modules and C sources that `pyproject.toml` lists (docs/decisions/0008).

Where a C compiler is, a wheel is compiled; where none is, the same files are interpreted. `TENANTRY_COMPILE` says
`auto` (that, the default), `yes` (fail where it cannot be compiled) or `no`. What was made, and why, stands in the
wheel as `tenantry/form.txt`, for `tenantry --version` and `tenantry doctor`. An editable install is never compiled.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What compiles: this release was tried, and what the next one makes of the same modules is not known.
COMPILERS = ["mypy[mypyc]==2.4.1"]
CHOICES = ("auto", "yes", "no")
FORM_FILE = "tenantry/form.txt"
# Of what a compiler says when it fails, the last lines name the error.
TOLD_LINES_MAX = 20
# C extensions are built once for every CPython from this one on (PEP 384).
LIMITED_API = "0x030B0000"
# Errors in modules that are not compiled are for `make check`. Libraries need not be installed where it is built.
MYPY_FLAGS = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]


class CompileHook(BuildHookInterface[Any]):
    """Adds what was compiled to a wheel that is not editable."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs besides hatchling: nothing where nothing will be compiled."""
        return [] if _why_not() else COMPILERS

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._folder = Path(tempfile.mkdtemp(prefix="tenantry-build-"))
        why_not = _why_not() or self._compile()
        if why_not and _choice() == "yes":
            shutil.rmtree(self._folder)
            raise SystemExit(f"Tenantry could not be compiled: {why_not}")
        included: dict[str, str] = build_data["force_include"]
        if why_not:
            form = f"interpreted: {why_not.splitlines()[0]}"
            self.app.display_warning(f"Tenantry is built interpreted, which works but takes more CPU: {why_not}")
        else:
            form = f"compiled for {sys.implementation.cache_tag}, {sysconfig.get_platform()}"
            self.app.display_info(f"Tenantry is {form}.")
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            out = self._folder / "out"
            included.update({str(file): str(file.relative_to(out)) for file in out.rglob("*") if file.is_file()})
        (self._folder / "form.txt").write_text(form + "\n")
        included[str(self._folder / "form.txt")] = FORM_FILE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._folder, ignore_errors=True)

    def _compile(self) -> str:
        """Compile into `out` below the folder. Why that was not possible, or nothing."""
        if importlib.util.find_spec("mypyc") is None:
            return "mypy is not installed where it was built"
        source = self._folder / "source"
        shutil.copytree(Path(self.root, "src"), source, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        command = [sys.executable, __file__, *self.config["modules"], "--", *self.config["extensions"]]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)  # noqa: S603 -- this file
        said = (done.stdout + done.stderr).strip().splitlines()
        return "\n".join(["the compiler failed", *said[-TOLD_LINES_MAX:]]) if done.returncode else ""


def _choice() -> str:
    choice = os.environ.get("TENANTRY_COMPILE", "auto")
    if choice not in CHOICES:
        raise SystemExit(f"TENANTRY_COMPILE is one of {', '.join(CHOICES)}, not {choice!r}")
    return choice


def _why_not() -> str:
    """Why nothing is to be compiled here, or nothing."""
    if _choice() == "no":
        return "it was built with TENANTRY_COMPILE=no"
    if sys.implementation.name != "cpython":
        return "mypyc compiles for CPython alone"
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or ""
    if sys.platform != "win32" and not (compiler and shutil.which(compiler.split()[0])):
        return "no C compiler was found where it was built"
    return ""


def compile_here(modules: list[str], extensions: list[str]) -> None:
    """Compile what stands below the current folder into `../out`; one library, so that calls between modules are C's.

    In a process of its own: mypyc and setuptools end theirs where something is wrong.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 -- where nothing is compiled, it is not installed
    from setuptools import Extension, setup  # noqa: PLC0415

    compiled = mypycify([*MYPY_FLAGS, *modules], group_name="tenantry", target_dir="generated", debug_level="0")
    small = [
        Extension(
            source.removesuffix(".c").replace("/", "."),
            [source],
            define_macros=[("Py_LIMITED_API", LIMITED_API)],
            py_limited_api=True,
        )
        for source in extensions
    ]
    arguments = ["-q", "build_ext", "--build-lib", "../out", "--build-temp", "../temp"]
    setup(name="tenantry", packages=[], ext_modules=[*compiled, *small], script_args=arguments)


if __name__ == "__main__":
    divider = sys.argv.index("--")
    compile_here(sys.argv[1:divider], sys.argv[divider + 1 :])

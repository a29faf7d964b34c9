"""Compiles the hot path into the wheel: the modules and C sources that `pyproject.toml` lists (docs/decisions/0008).

A wheel is compiled where a C compiler is, and interpreted where none is: the same files. `TENANTRY_COMPILE` says
`auto` (that, the default), `yes` (fail where it cannot be compiled) or `no`. What was made, and why, stands in the
wheel as `tenantry/form.txt`, for `tenantry --version` and `tenantry doctor`. An editable install is never compiled.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FORM_FILE = "tenantry/form.txt"
CHOICES = ("auto", "yes", "no")
# Of what a compiler says when it fails, the last lines name the error.
TOLD_LINES_MAX = 20
NO_COMPILER = "no C compiler was found"
# C extensions are built for every CPython from this one on (PEP 384).
LIMITED_API = "0x030B0000"


class CompileHook(BuildHookInterface[Any]):
    """Adds what was compiled to a wheel that is not editable."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        choice = os.environ.get("TENANTRY_COMPILE", "auto")
        if choice not in CHOICES:
            raise SystemExit(f"TENANTRY_COMPILE is one of {', '.join(CHOICES)}, not {choice!r}")
        self._folder = Path(tempfile.mkdtemp(prefix="tenantry-build-"))
        why_not = "TENANTRY_COMPILE=no" if choice == "no" else self._compile()
        if why_not and choice == "yes":
            raise SystemExit(f"Tenantry could not be compiled: {why_not}")
        form = f"interpreted: {why_not.splitlines()[0]}" if why_not else f"compiled for {_platform()}"
        if why_not:
            self.app.display_warning(f"Tenantry is installed interpreted, which works but takes more CPU: {why_not}")
        else:
            self.app.display_info(f"Tenantry is {form}.")
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
        (self._folder / "form.txt").write_text(form + "\n")
        build_data["force_include"][str(self._folder / "form.txt")] = FORM_FILE

        for file in (self._folder / "out").rglob("*"):
            if file.is_file():
                build_data["force_include"][str(file)] = file.relative_to(self._folder / "out").as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            shutil.rmtree(self._folder, ignore_errors=True)

    def _compile(self) -> str:
        """Compile into `out`. Why that was not possible, or nothing."""
        if not _has_compiler():
            return NO_COMPILER
        source = self._folder / "source"
        shutil.copytree(Path(self.root, "src"), source, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        lists: dict[str, list[str]] = {name: self.config[name] for name in ("modules", "extensions")}
        command = [sys.executable, __file__, *lists["modules"], "--", *lists["extensions"]]
        done = subprocess.run(command, cwd=source, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(self._folder / "out", ignore_errors=True)
            said = (done.stdout + done.stderr).strip().splitlines()[-TOLD_LINES_MAX:]
            return "\n".join(["the compiler failed", *said])
        return ""


def _has_compiler() -> bool:
    """Whether the C compiler is there that this Python would call."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC")
    return sys.platform == "win32" or bool(compiler and shutil.which(compiler.split()[0]))


def _platform() -> str:
    return f"{sys.implementation.cache_tag}, {sysconfig.get_platform()}"


def compile_all(modules: list[str], extensions: list[str]) -> None:
    """Compile what stands below the current folder into `../out`. Runs in a process of its own: mypyc exits on errors."""
    from mypyc.build import mypycify  # noqa: PLC0415 -- only here is it needed, and it is not there for an editable install
    from setuptools import Extension, setup  # noqa: PLC0415

    flags = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
    compiled = mypycify([*flags, *modules], group_name="tenantry", target_dir="generated", debug_level="0", opt_level=os.environ.get("OPT", "3"))
    small = [
        Extension(
            source.removesuffix(".c").replace("/", "."),
            [source],
            define_macros=[("Py_LIMITED_API", LIMITED_API)],
            py_limited_api=True,
        )
        for source in extensions
    ]
    arguments = ["build_ext", "--build-lib", "../out", "--build-temp", "../temp"]
    setup(name="tenantry", packages=[], ext_modules=[*compiled, *small], script_args=["-q", *arguments])


if __name__ == "__main__":
    divider = sys.argv.index("--")
    compile_all(sys.argv[1:divider], sys.argv[divider + 1 :])

"""What a command does not need is not loaded for it: an emergency, and a look, should not wait for libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.settings import load_settings
from tests.template import init_from_template

# Each takes tens of milliseconds of CPU to load.
HEAVY = {"apprise", "alembic", "jinja2", "cryptography.x509", "pydantic", "rich.table", "uvicorn", "starlette", "yaml"}
COMMANDS = ["plan", "doctor --json", "keys list", "credentials list"]
LOADED = "import json, sys\nsys.argv = ['tenantry', *sys.argv[1:]]\nfrom tenantry.start import main\ntry:\n    main()\n"
LOADED += "except SystemExit:\n    pass\nprint('\\n' + json.dumps(sorted(sys.modules)))\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_loads_no_library_that_it_does_not_use(tmp_path: Path, command: str) -> None:
    environ = {"TENANTRY_DATA_DIR": str(tmp_path / "data")}
    init_from_template(load_settings(None, environ))
    (tmp_path / "tenants.toml").write_text('[tenants.acme]\nname = "Acme"\ntier = "standard"\n')
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command.split()],
        env=os.environ | environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert HEAVY & set(json.loads(done.stdout.splitlines()[-1])) == set()

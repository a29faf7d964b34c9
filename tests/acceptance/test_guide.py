"""The client's guide: every snippet in it is run against a real gateway, as it is printed."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.test_commands import tenantry
from tests.stack import Stack, wait_for

SDK_SNIPPETS = 3
# Packages that a snippet needs and that may be missing here: TENANTRY_GUIDE_PYTHON names an interpreter that has them.
FOREIGN = ("langchain_anthropic", "claude_agent_sdk", "llama_index")


OTHER_PYTHON = os.environ.get("TENANTRY_GUIDE_PYTHON", "")
NODE_MODULES = os.environ.get("TENANTRY_GUIDE_NODE_MODULES", "")
CLAUDE = os.environ.get("TENANTRY_GUIDE_CLAUDE", "")


def snippets(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def interpreter_for(snippet: str) -> str:
    needed = next((name for name in FOREIGN if name in snippet), None)
    if needed is None or find_spec(needed) is not None:
        return sys.executable
    other = OTHER_PYTHON
    found = (
        other and subprocess.run([other, "-c", f"import {needed}"], capture_output=True, check=False).returncode == 0
    )
    if not found:
        pytest.skip(f"{needed} is not installed here")
    return other


@pytest.fixture(scope="module")
def made(stack: Stack) -> dict[str, str]:
    words = ["provision", "Acme & Söhne *Ltd*", "--slug", "acme", "--tier", "premium", "--credential", "sandbox"]
    done = tenantry(stack, *words, "--json", TENANTRY_CONTACT="ops@agency.example")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def guide(stack: Stack, made: dict[str, str]) -> str:
    return (stack.folder / made["guide"]).read_text("utf-8")


def run(stack: Stack, command: list[str], key: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(stack.folder),
        "TENANTRY_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return subprocess.run(
        command, env=environ, cwd=stack.folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("number", range(5))
def test_every_typescript_snippet_runs(stack: Stack, made: dict[str, str], guide: str, number: int) -> None:
    found = snippets(guide, "ts")
    assert len(found) == 5
    modules = NODE_MODULES
    if not modules:
        pytest.skip("TENANTRY_GUIDE_NODE_MODULES names no folder with the packages of the snippets")
    folder = stack.folder / "typescript"
    folder.mkdir(exist_ok=True)
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(modules)
    script = folder / f"snippet{number}.mjs"
    script.write_text(found[number], "utf-8")
    done = run(stack, ["node", str(script)], made["key"])
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout


def test_claude_code_works_with_the_guides_settings(stack: Stack, made: dict[str, str], guide: str) -> None:
    binary = CLAUDE
    if not binary:
        pytest.skip("TENANTRY_GUIDE_CLAUDE names no Claude Code")
    home = stack.folder / ".claude"
    home.mkdir(exist_ok=True)
    helper = home / "gateway-key.sh"
    helper.write_text(next(snippet for snippet in snippets(guide, "sh") if snippet.startswith("#!")), "utf-8")
    helper.chmod(0o700)
    (home / "settings.json").write_text(snippets(guide, "json")[0], "utf-8")
    done = run(stack, [binary, "-p", "hello", "--model", "claude-haiku-5-5"], made["key"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "simulated" in done.stdout


@pytest.mark.parametrize("number", range(SDK_SNIPPETS + 3))
def test_every_python_snippet_runs(stack: Stack, made: dict[str, str], guide: str, number: int) -> None:
    found = snippets(guide, "python")
    assert len(found) == SDK_SNIPPETS + 3
    before = len(stack.rows("acme"))
    done = run(stack, [interpreter_for(found[number]), "-W", "error", "-c", found[number]], made["key"])
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout
    wait_for(lambda: len(stack.rows("acme")) > before, 3, "the row of the snippet")


def test_every_curl_snippet_runs(stack: Stack, made: dict[str, str], guide: str) -> None:
    found = snippets(guide, "bash")
    assert len(found) == 3
    for snippet in found:
        done = run(
            stack,
            ["bash", "-euc", snippet.replace("curl ", "curl --fail-with-body --silent --show-error ")],
            made["key"],
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert '"input_tokens"' in done.stdout


def test_json_snippets_are_json_with_this_clients_endpoint(made: dict[str, str], guide: str) -> None:
    found = [json.loads(snippet) for snippet in snippets(guide, "json")]
    assert found[0]["env"]["ANTHROPIC_BASE_URL"] == made["endpoint"]
    assert found[1]["models"]["providers"]["agency"]["baseUrl"] == made["endpoint"]


def test_the_shells_lines_for_claude_code_are_valid(stack: Stack, made: dict[str, str], guide: str) -> None:
    for snippet in snippets(guide, "sh"):
        assert run(stack, ["sh", "-n", "-c", snippet], "").returncode == 0
    helper = next(snippet for snippet in snippets(guide, "sh") if snippet.startswith("#!"))
    assert run(stack, ["sh", "-c", helper], made["key"]).stdout == made["key"] + "\n"


def test_the_guide_says_everything_and_never_the_key(stack: Stack, made: dict[str, str], guide: str) -> None:
    for word in (
        "curl", "Python SDK", "TypeScript SDK", "Claude Code", "apiKeyHelper", "settings.json", "Claude Agent SDK",
        "OpenClaw", "LangChain", "Vercel AI SDK", "LlamaIndex", "Go", "aider", "llm", "n8n", "What is not offered",
        "/v1/messages/batches", "/v1/chat/completions",
        "x-api-key", "Bearer", "15 at once", "60 a minute", "Fair use", "billing_error",
        "ops@agency.example", made["endpoint"],
    ):  # fmt: skip
        assert word in guide, word
    page = (stack.folder / "clients" / "acme.html").read_text("utf-8")
    for text in (guide, page):
        assert made["key"] not in text
        assert made["key"][-10:] not in text


def test_the_page_is_the_same_text_and_needs_nothing_from_elsewhere(stack: Stack, made: dict[str, str]) -> None:
    page = (stack.folder / "clients" / "acme.html").read_text("utf-8")
    assert "<title>Claude access for Acme &amp; Söhne *Ltd*</title>" in page
    assert "<h1>Claude access for Acme &amp; Söhne *Ltd*</h1>" in page
    for outside in ("<script", "<link", "<img", " src=", "@import", "url("):
        assert outside not in page
    assert re.findall(r'href="(?!#)([^"]+)"', page) == []
    anchors = re.findall(r'href="#([^"]+)"', page)
    assert anchors
    assert set(anchors) == set(re.findall(r'<h2 id="([^"]+)"', page))
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_guide_follows_the_limits_when_it_is_written_again(
    stack: Stack, made: dict[str, str], tmp_path: Path
) -> None:
    from tenantry.domain.limits import read_limits
    from tenantry.storage.directory.tenants import TenantChange

    stack.site.directory.set_tenant(
        "acme", TenantChange(limits=read_limits({"requests_per_minute": 600, "models": "claude-sonnet-*"}))
    )
    done = tenantry(stack, "tenants", "guide", "acme", "--out", str(tmp_path / "new"))
    stack.site.directory.set_tenant("acme", TenantChange(inherit=["requests_per_minute", "models"]))
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new" / "acme.md").read_text("utf-8")
    assert "600 a minute" in text
    assert "`claude-sonnet-*`" in text
    assert "claude-haiku" not in text
    assert (tmp_path / "new" / "acme.html").stat().st_size > 10_000


def test_fair_use_is_printed_with_the_clients_own_figures(stack: Stack, made: dict[str, str]) -> None:
    done = tenantry(stack, "tenants", "fair-use", "acme")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Fair use\n")
    assert "File analysis" in done.stdout
    assert "about 2.8 hours at best" in done.stdout  # 10,000 requests at 60 a minute
    assert tenantry(stack, "tenants", "fair-use", "nobody").returncode == 1
    assert tenantry(stack, "tenants", "guide", "nobody").returncode == 1


def test_a_guide_that_cannot_be_written_is_told(stack: Stack, made: dict[str, str], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = tenantry(stack, "tenants", "guide", "acme", "--out", str(blocked))
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr

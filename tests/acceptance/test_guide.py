"""The client's guide: every snippet in it is run against a real gateway, as it is printed."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.test_commands import tenantry
from tests.clients.installing import go_environment
from tests.stack import Stack, wait_for

SDK_SNIPPETS = 3
# What `make test-clients` has installed, a folder for each client; without it what needs them is skipped.
CLIENTS = os.environ.get("TENANTRY_CLIENTS", "")
# What a snippet imports, and the client whose folder has it.
FOREIGN = {
    "langchain_anthropic": "langchain-python",
    "claude_agent_sdk": "claude-agent-sdk-python",
    "llama_index": "llama-index",
    "@anthropic-ai/sdk": "anthropic-typescript",
    "@anthropic-ai/claude-agent-sdk": "claude-agent-sdk-typescript",
    "@langchain/anthropic": "langchain-typescript",
    "@ai-sdk/anthropic": "vercel-ai",
}
# A client that compiles, or starts a Claude Code of its own, on a busy machine.
SNIPPET_SECONDS_MAX = 120


def snippets(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def folder_of(client: str) -> Path:
    folder = Path(CLIENTS, client)
    if not CLIENTS or not folder.exists():
        pytest.skip(f"TENANTRY_CLIENTS names no folder with {client}: make test-clients")
    return folder


def folder_for(snippet: str) -> Path | None:
    """The folder of the client that a snippet imports; None where this environment has what it needs."""
    needed = next((name for name in FOREIGN if name in snippet), None)
    return None if needed is None else folder_of(FOREIGN[needed])


def shell_snippet(guide: str, words: str) -> str:
    return next(snippet for snippet in snippets(guide, "sh") if words in snippet)


@pytest.fixture(scope="module")
def made(stack: Stack) -> dict[str, str]:
    words = ["provision", "Acme & Söhne *Ltd*", "--slug", "acme", "--tier", "premium", "--credential", "sandbox"]
    done = tenantry(stack, *words, "--json", TENANTRY_CONTACT="ops@agency.example")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def guide(stack: Stack, made: dict[str, str]) -> str:
    return (stack.folder / made["guide"]).read_text("utf-8")


def run(stack: Stack, command: list[str], key: str, *programs: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `command` as the client would; `programs` are folders that come first on its path."""
    first = [*programs, Path(CLIENTS, "node", "node_modules", ".bin")] if CLIENTS else programs
    environ = {
        "PATH": ":".join([*map(str, first), os.environ["PATH"]]),
        "HOME": str(stack.folder),
        "TENANTRY_KEY": key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        **extra,
    }
    return subprocess.run(
        command,
        env=environ,
        cwd=stack.folder,
        capture_output=True,
        text=True,
        timeout=SNIPPET_SECONDS_MAX,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def answered(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "simulated" in done.stdout


@pytest.mark.parametrize("number", range(5))
def test_every_typescript_snippet_runs(stack: Stack, made: dict[str, str], guide: str, number: int) -> None:
    found = snippets(guide, "ts")
    assert len(found) == 5
    client = folder_for(found[number])
    assert client is not None
    folder = stack.folder / f"typescript{number}"
    folder.mkdir()
    (folder / "node_modules").symlink_to(client / "node_modules")
    (folder / "snippet.mjs").write_text(found[number], "utf-8")
    answered(run(stack, ["node", str(folder / "snippet.mjs")], made["key"]))


def test_claude_code_works_with_the_guides_settings(stack: Stack, made: dict[str, str], guide: str) -> None:
    programs = folder_of("claude-code") / "node_modules" / ".bin"
    home = stack.folder / ".claude"
    home.mkdir(exist_ok=True)
    helper = home / "gateway-key.sh"
    helper.write_text(shell_snippet(guide, "#!/bin/sh"), "utf-8")
    helper.chmod(0o700)
    (home / "settings.json").write_text(snippets(guide, "json")[0], "utf-8")
    answered(run(stack, ["claude", "-p", "hello", "--model", "claude-haiku-5-5"], made["key"], programs))


def test_openclaw_works_with_the_guides_settings(stack: Stack, made: dict[str, str], guide: str) -> None:
    programs = folder_of("openclaw") / "node_modules" / ".bin"
    home = stack.folder / ".openclaw"
    home.mkdir(exist_ok=True)
    (home / "openclaw.json").write_text(snippets(guide, "json")[1], "utf-8")
    command = ["openclaw", "agent", "--local", "--session-id", "guide", "--message", "hello"]
    answered(run(stack, command, made["key"], programs))


def test_the_go_program_runs(stack: Stack, made: dict[str, str], guide: str) -> None:
    (program,) = snippets(guide, "go")
    module = folder_of("go")
    script = module / "guide" / "main.go"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program, "utf-8")
    answered(run(stack, ["go", "run", "-C", str(module), "./guide"], made["key"], **go_environment(module)))


def test_the_lines_for_llm_run(stack: Stack, made: dict[str, str], guide: str) -> None:
    programs = folder_of("llm") / "bin"
    answered(run(stack, ["sh", "-euc", shell_snippet(guide, "llm -m")], made["key"], programs))


def test_the_lines_for_aider_run(stack: Stack, made: dict[str, str], guide: str) -> None:
    programs = folder_of("aider") / "bin"
    # What keeps it from asking its user, and anybody but the gateway.
    quiet = "aider --message Hello --yes-always --no-git --no-check-update --analytics-disable --no-show-model-warnings"
    lines = shell_snippet(guide, "aider --model").replace("aider --model", f"{quiet} --model")
    answered(run(stack, ["sh", "-euc", lines], made["key"], programs))


@pytest.mark.parametrize("number", range(SDK_SNIPPETS + 3))
def test_every_python_snippet_runs(stack: Stack, made: dict[str, str], guide: str, number: int) -> None:
    found = snippets(guide, "python")
    assert len(found) == SDK_SNIPPETS + 3
    client = folder_for(found[number])
    # Warnings of others' libraries are not ours.
    python = [sys.executable, "-W", "error"] if client is None else [str(client / "bin" / "python")]
    before = len(stack.rows("acme"))
    answered(run(stack, [*python, "-c", found[number]], made["key"]))
    wait_for(lambda: len(stack.rows("acme")) > before, what="the row of the snippet")


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
    helper = shell_snippet(guide, "#!/bin/sh")
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

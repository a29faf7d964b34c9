"""Which clients there are, how each is installed and run, and what it has no call for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Each client has a folder of its own there; git ignores it.
FOLDER = ROOT / ".clients"
OLD_SDK = ROOT / ".venv-sdk097"
DRIVERS = Path(__file__).parent / "drivers"

MODEL = "claude-haiku-5-5"

# What a cell says where the client has no such call, or never makes it.
NO_CALL = "no such call"
STREAMS_ONLY = "only streams"
OWN_LIST = "own list"
OWN_COUNT = "counts itself"


@dataclass(frozen=True, slots=True)
class Client:
    """One row. `packages` come from the registry of `kind`; the first one's version stands in the table."""

    name: str
    kind: str  # pip, npm, go, old (which `make test` installs), system
    packages: tuple[str, ...]
    driver: str
    title: str
    absent: dict[str, str] = field(default_factory=dict[str, str])
    model: str = MODEL

    @property
    def folder(self) -> Path:
        return OLD_SDK if self.kind == "old" else FOLDER / self.name

    def command(self, operation: str) -> list[str]:
        """What runs one operation of it."""
        if self.kind == "go":
            return [str(self.folder / "driver"), operation]
        if self.driver.endswith(".sh"):
            return ["bash", str(DRIVERS / self.driver), operation]
        program = "node" if self.kind == "npm" else str(self.folder / "bin" / "python")
        return [program, str(self.script), operation]

    @property
    def script(self) -> Path:
        # A module of JavaScript finds packages beside itself alone.
        return (self.folder if self.kind == "npm" else DRIVERS) / self.driver


_NO_COUNT_NO_MODELS = {"count": NO_CALL, "models": NO_CALL}
_STREAMS = {"plain": STREAMS_ONLY}

CLIENTS = (
    Client("curl", "system", ("curl",), "curl.sh", "curl `--retry 2`", {"tools": NO_CALL}),
    Client("anthropic-python", "pip", ("anthropic",), "anthropic_python.py", "Python SDK"),
    Client("anthropic-python-old", "old", ("anthropic",), "anthropic_python.py", "Python SDK 0.97"),
    Client("anthropic-typescript", "npm", ("@anthropic-ai/sdk",), "anthropic_typescript.mjs", "TypeScript SDK"),
    Client("go", "go", ("github.com/anthropics/anthropic-sdk-go",), "main.go", "Go SDK"),
    Client("claude-code", "npm", ("@anthropic-ai/claude-code",), "claude_code.sh", "Claude Code", _STREAMS),
    Client(
        "claude-agent-sdk-python",
        "pip",
        ("claude-agent-sdk",),
        "claude_agent_sdk_python.py",
        "Claude Agent SDK, Python",
        _STREAMS | _NO_COUNT_NO_MODELS,
    ),
    Client(
        "claude-agent-sdk-typescript",
        "npm",
        ("@anthropic-ai/claude-agent-sdk",),
        "claude_agent_sdk_typescript.mjs",
        "Claude Agent SDK, TypeScript",
        _STREAMS | _NO_COUNT_NO_MODELS,
    ),
    Client(
        "langchain-python",
        "pip",
        ("langchain-anthropic",),
        "langchain_python.py",
        "LangChain, Python",
        {"models": NO_CALL},
    ),
    Client(
        "langchain-typescript",
        "npm",
        ("@langchain/anthropic", "@langchain/core", "zod"),
        "langchain_typescript.mjs",
        "LangChain, TypeScript",
        {"count": OWN_COUNT, "models": NO_CALL},
    ),
    Client(
        "vercel-ai", "npm", ("ai", "@ai-sdk/anthropic", "zod"), "vercel_ai.mjs", "Vercel AI SDK", _NO_COUNT_NO_MODELS
    ),
    Client(
        "llama-index",
        "pip",
        ("llama-index-llms-anthropic", "anthropic<2"),
        "llama_index_python.py",
        "LlamaIndex",
        {"models": NO_CALL},
    ),
    Client("llm", "pip", ("llm", "llm-anthropic"), "llm.sh", "`llm`", {"count": NO_CALL, "models": OWN_LIST}),
    Client("litellm", "pip", ("litellm",), "litellm_python.py", "LiteLLM", {"count": OWN_COUNT}),
    Client(
        "aider",
        "pip",
        ("aider-chat",),
        "aider.sh",
        "aider",
        {"tools": NO_CALL, "count": OWN_COUNT, "models": OWN_LIST},
    ),
    Client("openclaw", "npm", ("openclaw",), "openclaw.sh", "OpenClaw", _STREAMS | _NO_COUNT_NO_MODELS),
)

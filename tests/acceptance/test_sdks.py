"""The real `anthropic` SDKs, 2.10 and 0.97, through a real gateway process."""

import asyncio
import json
import subprocess
from pathlib import Path

import anthropic
import pytest

from tests.stack import Stack, wait_for

OLD_PYTHON = Path(__file__).parents[2] / ".venv-sdk097" / "bin" / "python"
ASK = {"model": "claude-sonnet-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hi"}]}

OLD_CLIENT = """
import asyncio, json, os, sys
import anthropic
assert anthropic.__version__ == "0.97.0", anthropic.__version__
ask = json.loads(sys.argv[1])
def options(): return dict(base_url=os.environ["BASE"], api_key=os.environ["KEY"])
client = anthropic.Anthropic(**options())
out = [client.messages.create(**ask).usage.output_tokens]
with client.messages.stream(**ask) as stream:
    text = "".join(stream.text_stream)
out.append(stream.get_final_message().usage.output_tokens)
async def later():
    async with anthropic.AsyncAnthropic(**options()) as client:
        first = (await client.messages.create(**ask)).usage.output_tokens
        async with client.messages.stream(**ask) as stream:
            second = (await stream.get_final_message()).usage.output_tokens
        return [first, second]
out += asyncio.run(later())
print(json.dumps([out, text, client.models.list().data[0].id]))
"""


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    return stack.tenant("sdk")


@pytest.fixture(scope="module")
def client(stack: Stack, key: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=f"http://127.0.0.1:{stack.port}/t/sdk", api_key=key)


def test_a_message_and_a_stream_agree(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert message.content[0].text.startswith("[Tenantry sandbox: simulated answer]")
    assert text == message.content[0].text
    assert final.stop_reason == "end_turn"


def test_thinking_and_tools_stream_through(client: anthropic.Anthropic) -> None:
    tool = {"name": "get_weather", "input_schema": {"type": "object"}}
    with client.messages.stream(
        **ASK, tools=[tool], extra_headers={"x-sandbox-scenario": "thinking;tool-use"}
    ) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert final.content[2].input == {"location": "Paris", "unit": "celsius"}


def test_beta_count_and_models_are_served(client: anthropic.Anthropic) -> None:
    assert client.beta.messages.create(**ASK, betas=["compact-2026-01-12"]).stop_reason == "end_turn"
    counted = client.messages.count_tokens(model=ASK["model"], messages=ASK["messages"])
    assert counted.input_tokens > 0
    assert client.models.list(limit=3).data[0].id == "claude-fable-5-2"
    assert client.models.retrieve("claude-opus-5-5").type == "model"


def test_the_asynchronous_client_runs_many_streams_at_once(stack: Stack, key: str) -> None:
    async def run() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{stack.port}", api_key=key) as client:

            async def one(number: int) -> str:
                ask = ASK | {"messages": [{"role": "user", "content": f"number {number}"}]}
                async with client.messages.stream(**ask) as stream:
                    return (await stream.get_final_message()).id

            return await asyncio.gather(*(one(number) for number in range(30)))

    assert len(set(asyncio.run(run()))) == 30


def test_an_upstream_error_reaches_the_client_as_it_is(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**ASK, extra_headers={"x-sandbox-scenario": "error=400"})
    assert "simulated error 400" in caught.value.message


def test_a_dropped_stream_ends_in_an_error_that_the_sdk_raises(client: anthropic.Anthropic) -> None:
    for scenario in ("drop-midstream", "drop-mid-event", "no-message-stop"):
        with (
            pytest.raises(anthropic.APIStatusError, match="before the message was complete"),
            client.messages.stream(**ASK, extra_headers={"x-sandbox-scenario": scenario}) as stream,
        ):
            stream.get_final_message()


def test_usage_is_booked_as_the_client_was_told_it(stack: Stack, client: anthropic.Anthropic) -> None:
    message = client.messages.create(**ASK)
    usage = message.usage
    (row,) = wait_for(
        lambda: [row for row in stack.rows("sdk") if row["request_id"] == message._request_id], what="the row"
    )
    assert (row["input_tokens"], row["output_tokens"], row["outcome"]) == (
        usage.input_tokens,
        usage.output_tokens,
        "settled",
    )
    assert row["cost_nanos"] == usage.input_tokens * 2000 + usage.output_tokens * 10_000


def test_the_old_sdk_works_too(stack: Stack, key: str) -> None:
    if not OLD_PYTHON.exists():
        pytest.fail("`make test` installs the old SDK into .venv-sdk097; it is not there")
    done = subprocess.run(
        [OLD_PYTHON, "-c", OLD_CLIENT, json.dumps(ASK)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"BASE": f"http://127.0.0.1:{stack.port}/t/sdk", "KEY": key, "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    counts, text, model = json.loads(done.stdout)
    assert len(set(counts)) == 1
    assert "simulated" in text
    assert model == "claude-fable-5-2"

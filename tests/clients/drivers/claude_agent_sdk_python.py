"""Claude Agent SDK for Python: it starts a Claude Code of its own."""

import asyncio
import os
import sys

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query


async def main(*, is_partial: bool) -> None:
    options = ClaudeAgentOptions(
        model=os.environ["MODEL"],
        max_turns=3,
        tools=["Read"],
        allowed_tools=["Read"],
        setting_sources=[],
        include_partial_messages=is_partial,
        env={"ANTHROPIC_BASE_URL": os.environ["BASE_URL"], "ANTHROPIC_AUTH_TOKEN": os.environ["GATEWAY_KEY"]},
    )
    async for message in query(prompt="Say hello", options=options):
        if isinstance(message, ResultMessage):
            print(message.result)
            if message.is_error:
                sys.exit(1)


asyncio.run(main(is_partial=sys.argv[1] == "stream"))

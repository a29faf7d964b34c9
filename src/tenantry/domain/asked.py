"""What a Messages request asks for, as far as policies and money need to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenantry.domain.values import value


@value
class ServerTool:
    """A tool that runs upstream. None: the body does not say.

    `model` and `max_tokens` are an advisor's; `max_content_tokens` bounds what one use of a fetch brings in.
    """

    type: str
    max_uses: int | None = None
    model: str | None = None
    max_tokens: int | None = None
    max_content_tokens: int | None = None

    @property
    def is_advisor(self) -> bool:
        return self.type.startswith("advisor")

    @property
    def is_web_search(self) -> bool:
        return self.type.startswith("web_search")

    @property
    def is_web_fetch(self) -> bool:
        return self.type.startswith("web_fetch")


@dataclass(init=False, slots=True)
class MessageFields:
    """The fields of a request that the gateway acts on, filled while a body is read; an edit of it changes them too.

    `max_tokens` is None for a count. `wants_1h`: the body asks for a one-hour cache breakpoint somewhere. The words
    `speed`, `inference_geo`, `service_tier` are None when absent. `fallbacks` are models; `fallback_speeds` the speeds
    and `fallback_max_tokens` the largest `max_tokens` that their entries ask for; `fallbacks_default`: upstream chooses
    them. `images` counts images, and `image_bytes` those of them that stand in the body as base64. `has_sources`:
    documents or files whose tokens their bytes do not bound. `has_thread`: most of the prompt is upstream.
    `typed_tools`: tools that the client runs and whose description upstream adds. `mcp_servers`: how many are named.
    `is_compaction`: the request is to be summarized; `compact_at_tokens`: a conversation above so many tokens is
    summarized on the way, None for never. `ends_in_tool_result`: the user's last message answers a tool.
    `is_cached_here`: the gateway itself has added the cache breakpoint. `object_id`: where the body names something
    upstream, None also where that was not looked for. `is_simple`: plain texts, a model and a bound are all that it
    says. `members`: what was read of the body, so that nobody reads it again, or that body (`wire.members.members_of`).
    """

    model: str
    max_tokens: int | None
    stream: bool
    wants_1h: bool
    has_cache_control: bool
    speed: str | None
    inference_geo: str | None
    service_tier: str | None
    server_tools: tuple[ServerTool, ...]
    fallbacks: tuple[str, ...]
    fallback_speeds: tuple[str, ...]
    fallback_max_tokens: int
    fallbacks_default: bool
    has_sources: bool
    has_thread: bool
    has_tools: bool
    typed_tools: int
    mcp_servers: int
    images: int
    image_bytes: int
    is_compaction: bool
    compact_at_tokens: int | None
    ends_in_tool_result: bool
    is_cached_here: bool
    object_id: str | None
    is_simple: bool = field(compare=False)
    members: Any = field(repr=False, compare=False)

    def __init__(
        self,
        model: str,
        max_tokens: int | None,
        stream: bool,
        wants_1h: bool,
        has_cache_control: bool = False,
        speed: str | None = None,
        inference_geo: str | None = None,
        service_tier: str | None = None,
        server_tools: tuple[ServerTool, ...] = (),
        fallbacks: tuple[str, ...] = (),
        fallback_speeds: tuple[str, ...] = (),
        fallback_max_tokens: int = 0,
        fallbacks_default: bool = False,
        has_sources: bool = False,
        has_thread: bool = False,
        has_tools: bool = False,
        typed_tools: int = 0,
        mcp_servers: int = 0,
        images: int = 0,
        image_bytes: int = 0,
        is_compaction: bool = False,
        compact_at_tokens: int | None = None,
        ends_in_tool_result: bool = False,
        is_cached_here: bool = False,
        is_simple: bool = False,
        object_id: str | None = None,
        members: object = None,
    ) -> None:
        self.model = model
        self.max_tokens = max_tokens
        self.stream = stream
        self.wants_1h = wants_1h
        self.has_cache_control = has_cache_control
        self.speed = speed
        self.inference_geo = inference_geo
        self.service_tier = service_tier
        self.server_tools = server_tools
        self.fallbacks = fallbacks
        self.fallback_speeds = fallback_speeds
        self.fallback_max_tokens = fallback_max_tokens
        self.fallbacks_default = fallbacks_default
        self.has_sources = has_sources
        self.has_thread = has_thread
        self.has_tools = has_tools
        self.typed_tools = typed_tools
        self.mcp_servers = mcp_servers
        self.images = images
        self.image_bytes = image_bytes
        self.is_compaction = is_compaction
        self.compact_at_tokens = compact_at_tokens
        self.ends_in_tool_result = ends_in_tool_result
        self.is_cached_here = is_cached_here
        self.is_simple = is_simple
        self.object_id = object_id
        self.members = members

    @property
    def output_tokens_max(self) -> int:
        """The most that one answer may have, whichever model gives it."""
        return max(self.max_tokens or 0, self.fallback_max_tokens)

    @property
    def other_models(self) -> tuple[str, ...]:
        """Models that may answer or advise besides the one asked for."""
        return self.fallbacks + tuple(tool.model for tool in self.server_tools if tool.model is not None)

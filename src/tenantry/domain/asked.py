"""What a Messages request asks for, as far as policies and money need to know."""

from __future__ import annotations

from tenantry.domain.values import value


@value
class ServerTool:
    """A tool that runs upstream. `model` and `max_tokens` are an advisor's; None: the body does not say."""

    type: str
    max_uses: int | None = None
    model: str | None = None
    max_tokens: int | None = None

    @property
    def is_advisor(self) -> bool:
        return self.type.startswith("advisor")

    @property
    def is_web_search(self) -> bool:
        return self.type.startswith("web_search")


@value
class MessageFields:
    """The fields of a request that the gateway acts on.

    `max_tokens` is None for a count. `wants_1h`: the body asks for a one-hour cache breakpoint somewhere. The words
    `speed`, `inference_geo`, `service_tier` are None when absent. `fallbacks` are models; `fallback_speeds` the speeds that
    their entries ask for; `fallbacks_default`: the upstream chooses them. `has_sources`: images, documents or files,
    whose tokens their bytes do not bound; `has_remote_sources`: by URL or file id. `has_thread`: most of the prompt is
    upstream. `has_escapes`: plain letters are written as escapes somewhere, so that no search of the bytes can be trusted;
    what searches would find is then taken to be there.
    """

    model: str
    max_tokens: int | None
    stream: bool
    wants_1h: bool
    has_cache_control: bool = False
    speed: str | None = None
    inference_geo: str | None = None
    service_tier: str | None = None
    server_tools: tuple[ServerTool, ...] = ()
    fallbacks: tuple[str, ...] = ()
    fallback_speeds: tuple[str, ...] = ()
    fallbacks_default: bool = False
    has_sources: bool = False
    has_remote_sources: bool = False
    has_thread: bool = False
    has_tools: bool = False
    has_escapes: bool = False

    @property
    def other_models(self) -> tuple[str, ...]:
        """Models that may answer or advise besides the one asked for."""
        return self.fallbacks + tuple(tool.model for tool in self.server_tools if tool.model is not None)

"""Which network addresses a server of ours may talk to: public ones, and those that its owner names.

Addresses of images come out of catalogues, and with ``FUSION_STAC_ANY=1`` the catalogue's own address comes from a
visitor. Neither may make this machine ask its own services or its neighbours (a cloud's metadata service, a router, a
database), so every name is resolved here and the connection is then made to the very address that was judged: a name
that answers differently the second time gains nothing.

``FUSION_STAC="name=https://host/api,name2=..."`` lists catalogues of the owner, whose exact hosts and ports are free to
be private; ``FUSION_STAC_HOSTS="host:port,..."`` adds hosts that keep their images.
"""

import ipaddress
import os
import re
import socket
from urllib.parse import SplitResult, urlsplit

from ..errors import FusionError

PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SPECIAL = {ipaddress.ip_address("168.63.129.16")}  # public by its number, yet a cloud's own service
_CLOSED = ipaddress.ip_network("192.0.0.0/24")  # of protocols; Python calls some of it global, and a cloud uses it
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address
_WHY = (
    "only public addresses are asked, so that nobody can use this server to reach its neighbours. Its owner can allow "
    "a host with FUSION_STAC or FUSION_STAC_HOSTS"
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def configured() -> dict[str, str]:
    """Catalogues that the server's owner added, name to address, without a slash at the end.

    Raises
    ------
    FusionError
        If ``FUSION_STAC`` cannot be understood.
    """
    out = {}
    for number, part in enumerate(_listed("FUSION_STAC"), 1):
        name, sign, url = part.partition("=")
        plain = bool(sign and _NAME.fullmatch(name))  # else it may be an address, with a password
        if wrong := _mistake(url) if plain else "a name that is none: names are small letters, digits and hyphens":
            shown = f"part {number} ({name})" if plain else f"part {number}"
            raise FusionError(
                f'FUSION_STAC wants "name=https://host/path,name2=...", got {shown} with {wrong}. Correct the setting.'
            )
        out[name] = url.rstrip("/")
    return out


def _listed(setting: str) -> list[str]:
    return [part for text in os.environ.get(setting, "").split(",") if (part := text.strip())]


def _mistake(url: str) -> str:
    """What is wrong with an address of the owner's, in words that repeat nothing of it; empty where nothing is."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        return "an address that does not begin with https:// or http://, a host and, if any, its port"
    if parts.username is not None or parts.password is not None:
        return "a user name or password in its address: a catalogue is asked without"
    return "a ? or # in its address, after which nothing is asked" if parts.query or parts.fragment else ""


def port_of(parts: SplitResult) -> int:
    """Port of an address; an unusual one is written in it."""
    return parts.port or PORTS[parts.scheme]


def check(url: str) -> SplitResult:
    """Return the parts of an address that may be asked as far as can be told without resolving its name.

    Raises
    ------
    FusionError
        If it is no http or https address, or carries a user name, or is a number of a private network.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # whose words repeat the part, which may be a password
        raise FusionError(
            "An address wants the form https://host/path, got one whose host or port is broken: correct it."
        ) from None
    if parts.scheme not in PORTS or not parts.hostname or "\\" in url or re.search(r"[\s\x00-\x1f]", url):
        raise FusionError(
            "An address wants to begin with https:// or http:// and a host, got another: files of this machine and "
            "other protocols are not read from catalogues."
        )
    if parts.username is not None or parts.password is not None:
        raise FusionError(f"The address of {parts.hostname} carries a user name or password: give it without.")
    if port == 0:
        raise FusionError(f"The address of {parts.hostname} has port 0, which no server has: correct it.")
    literal = _literal(parts.hostname)
    if literal is not None and not _owned(parts.hostname, port_of(parts)):
        _judge(literal, parts.hostname)
    return parts


def addresses(host: str, port: int) -> tuple[str, ...]:
    """Resolve a host; every address that its name stands for must be public, unless host and port are the owner's.

    Raises
    ------
    OSError
        If the name cannot be resolved.
    FusionError
        If one of the addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # what the name's international form ends in
        raise FusionError(f"{host!r} is no name of a host: correct the address.") from error
    out = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not _owned(host, port):
        for text in out:
            address = _literal(text)
            if address is None:
                raise FusionError(f"{host} resolves to {text!r}, which is no internet address: {_WHY}.")
            _judge(address, host)
    return out


def public(address: Address) -> bool:
    """Tell whether anybody on the internet may be at this address, also when it wraps an older one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            return False
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(wrapped is not None and not public(wrapped) for wrapped in inner):
            return False
        if address.ipv4_mapped is not None:
            return True
        if address.is_site_local:
            return False
    loose = address.is_private or address.is_loopback or address.is_link_local or address.is_reserved
    wrong = loose or address.is_multicast or address.is_unspecified or address in _SPECIAL or address in _CLOSED
    if isinstance(address, ipaddress.IPv6Address) and address in _NAT64:
        return True  # judged by what it wraps
    return address.is_global and not wrong


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _judge(address: Address, host: str) -> None:
    if not public(address):
        raise FusionError(f"{host} is an address of this machine or of a closed network: {_WHY}.")


def _owned(host: str, port: int) -> bool:
    """Whether the owner named exactly this host and port."""
    return (host.lower().strip("[]"), port) in _hosts()


def _hosts() -> set[tuple[str, int]]:
    urls = list(configured().values())
    for number, text in enumerate(_listed("FUSION_STAC_HOSTS"), 1):
        if wrong := _mistake(f"https://{text}"):
            raise FusionError(
                f'FUSION_STAC_HOSTS wants "host:port,...", got part {number} with {wrong}. Correct the setting.'
            )
        urls.append(f"https://{text}")
    return {(str(parts.hostname).lower(), port_of(parts)) for parts in map(urlsplit, urls)}

"""Signs that a file is damaged though its pixels could be read. Placeholder."""

from smelt.data.limits import Header


def damage_of(data: bytes, header: Header) -> str:
    return ""

"""Uploads, and what they hold. Pure."""

from chargehand_client.documents import Upload, UploadSummary
from chargehand_client.outgoing import keyed, path_of
from chargehand_client.requests import Call, Listing, Request, delete, get, pages, parameters_of


def folder(name: str, archive: bytes) -> Call[Upload]:
    return _upload("folder", name, archive, "application/gzip")


def file(name: str, content: bytes, media_type: str) -> Call[Upload]:
    return _upload("file", name, content, media_type)


def listed() -> Listing[UploadSummary]:
    return pages("uploads")


def one(upload_id: str) -> Call[Upload]:
    return get("uploads", upload_id)


def remove(upload_id: str) -> Call[None]:
    return delete("uploads", upload_id)


def content(upload_id: str) -> Request:
    return Request(method="GET", path=path_of("uploads", upload_id, "content"))


def _upload(kind: str, name: str, content: bytes, media_type: str) -> Call[Upload]:
    return Call(
        Request(
            method="POST",
            path="/uploads",
            parameters=parameters_of({"kind": kind, "name": name}),
            content=content,
            headers={"Content-Type": media_type, **keyed(None)},
        )
    )

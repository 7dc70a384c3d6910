"""Uploads on the wire."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from chargehand.storage.operations import ListedUpload
from chargehand.storage.tables import Upload

FILES_SHOWN = 100


class UploadedFile(BaseModel):
    """One file of an upload."""

    path: str = Field(description="Relative to the folder; of a single file its name.")
    size: int = Field(description="In bytes.")
    sha256: str = Field(description="Of its contents, in hexadecimal.")
    mode: Literal["file", "executable"] = Field(description="Whether it may be executed.")


class UploadSummary(BaseModel):
    """An upload in a list."""

    id: UUID = Field(description="What runs and blocks of input name it by.")
    kind: Literal["folder", "file"] = Field(description="A folder for runs, or a single file.")
    name: str = Field(description="The name that it was uploaded under.")
    media_type: str = Field(description="Of a file as it was declared; of a folder a tar's.")
    size: int = Field(description="The sum of its files' sizes, in bytes.")
    file_count: int = Field(description="How many files it has.")
    created_by: UUID = Field(description="The user who uploaded it.")
    created_at: datetime = Field(description="When it was uploaded.")


class UploadOut(UploadSummary):
    """One upload, with its files."""

    files: list[UploadedFile] = Field(description=f"The first {FILES_SHOWN}, by path.")


def upload_out(upload: Upload) -> UploadOut:
    return UploadOut.model_validate(
        {
            "id": upload.id,
            "kind": upload.kind,
            "name": upload.name,
            "media_type": upload.media_type,
            "size": upload.size,
            "file_count": len(upload.files),
            "files": upload.files[:FILES_SHOWN],
            "created_by": upload.created_by,
            "created_at": upload.created_at,
        }
    )


def upload_summary(upload: ListedUpload) -> UploadSummary:
    return UploadSummary.model_validate(upload, from_attributes=True)

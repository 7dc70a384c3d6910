"""``uploads``: folders to begin runs with, and files, through the client package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chargehand.cli import completion, lists, options, output

if TYPE_CHECKING:
    from chargehand_client.documents import UploadSummary

uploads = options.noun("Upload files and folders, and get them back.")

Upload = Annotated[
    str, typer.Argument(metavar="UPLOAD", help="Its id.", autocompletion=completion.uploads)
]


@options.command(uploads, "list")
def list_(limit: lists.Limit = lists.DEFAULT_LIMIT, as_json: output.AsJson = False) -> None:
    """List your uploads, newest first; an admin's are the organization's.

    Example: chargehand uploads list
    """
    with options.service() as chargehand:
        columns = ("id", "kind", "name", "files", "bytes", "created")
        lists.show(chargehand.uploads(), limit, columns, _row, lists.as_it_is, as_json)


@options.command(uploads)
def create(
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, help="A file or a folder.")],
    media_type: Annotated[
        str | None, typer.Option(help="A file's media type; else guessed from its name.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Upload a file or a folder, and print its id.

    Of a git checkout, what git tracks or would add.

    Example: chargehand uploads create ./src
    """
    if media_type is not None and path.is_dir():
        raise typer.BadParameter("a folder has none", param_hint="--media-type")
    with options.service() as chargehand:
        made = (
            chargehand.upload_folder(path)
            if path.is_dir()
            else chargehand.upload_file(path, media_type=media_type)
        )
    if as_json:
        output.print_document(made)
    else:
        print(made["id"])


@options.command(uploads)
def show(upload: Upload, as_json: output.AsJson = False) -> None:
    """Show an upload with its first hundred files.

    Example: chargehand uploads show 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34
    """
    with options.service() as chargehand:
        found = chargehand.upload(upload)
    if as_json:
        output.print_document(found)
        return
    output.print_fields({name: value for name, value in found.items() if name != "files"})
    columns = ("file", "bytes", "mode")
    output.print_table(columns, [(f["path"], f"{f['size']:,}", f["mode"]) for f in found["files"]])


@options.command(uploads)
def download(
    upload: Upload,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; else its own name in this folder."),
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Download an upload: a file as it was, a folder as tar.gz.

    Example: chargehand uploads download 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --to src.tar.gz
    """
    with options.service() as chargehand:
        target = to or _target(chargehand.upload(upload))
        try:
            saved = chargehand.download(upload, target)
        except OSError as error:
            raise typer.BadParameter(
                f"{target} cannot be written: {error.strerror}", param_hint="--to"
            ) from error
    if as_json:
        output.print_document({"id": upload, "file": str(saved), "size": saved.stat().st_size})
    else:
        options.tell(f"{saved} ({saved.stat().st_size:,} bytes)")


@options.command(uploads)
def delete(upload: Upload, as_json: output.AsJson = False) -> None:
    """Delete an upload; runs that began with it keep their copy.

    Example: chargehand uploads delete 0197a3f2-3c61-7e0c-b6a1-5f2a7c9d1e34 --yes
    """
    options.confirm(f"Delete upload {upload}?")
    with options.service() as chargehand:
        chargehand.delete_upload(upload)
    if as_json:
        output.print_document({"id": upload, "deleted": True})
    else:
        options.tell(f"Upload {upload} is deleted.")


def _target(upload: "UploadSummary") -> Path:
    """A name in this folder that nothing has yet. Raises typer.BadParameter."""
    name = Path(upload["name"]).name or upload["id"]
    target = Path(f"{name}.tar.gz" if upload["kind"] == "folder" else name)
    if target.exists():
        raise typer.BadParameter(f"{target} is there already; name another file", param_hint="--to")
    return target


def _row(upload: "UploadSummary") -> tuple[str, ...]:
    return (
        upload["id"],
        upload["kind"],
        upload["name"],
        str(upload["file_count"]),
        f"{upload['size']:,}",
        lists.minute(upload["created_at"]),
    )

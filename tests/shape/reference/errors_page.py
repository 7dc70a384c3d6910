"""The codes of errors, from their closed tables."""

from tests.shape.reference.markdown import REFERENCE, Page, code, table

from chargehand.web.error_codes import HTTP_ERRORS, RUN_ERRORS


def page() -> Page:
    answers = [(code(e.code), str(e.status), e.meaning, e.remedy) for e in HTTP_ERRORS]
    runs = [(code(e.code), e.meaning, e.remedy) for e in RUN_ERRORS]
    return Page(
        REFERENCE / "errors.md",
        {
            "answers": table(("code", "status", "what it means", "what to do"), answers),
            "runs": table(("code", "what it means", "what to do"), runs),
        },
    )

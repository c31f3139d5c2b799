"""Who asks Earth Engine: credentials and project, found in a fixed order; nothing here is ever shown but names."""

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import google.auth
import google.auth.exceptions
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import credentials as own
from google.oauth2 import service_account

from ..errors import FusionError

SCOPES = ("https://www.googleapis.com/auth/earthengine", "https://www.googleapis.com/auth/cloud-platform")
YOURS = "your own sign-in"

HELP = """\
**Earth Engine needs a Google account and a Cloud project that is registered for it** (free for research and education).

1. Make or choose a project and register it: <https://code.earthengine.google.com/register>.
2. Sign in, in one of three ways; the first one found is used:
   - *Service account* (for a server): give it the roles *Earth Engine Resource Viewer* and *Service Usage Consumer*,
     make a JSON key, and put its content into `.streamlit/secrets.toml` under `[earthengine]`, or name the file in
     `FUSION_EE_KEY`.
   - *Application default credentials*: `gcloud auth application-default login`.
   - *Your own account*: `earthengine authenticate`.
3. Name the project, unless the key does: `FUSION_EE_PROJECT=my-project`.

One server has one identity: everybody who opens its pages reads with it. Keys are never shown, logged or stored.
"""


@dataclass(frozen=True)
class Identity:
    """Who asks Earth Engine.

    Parameters
    ----------
    kind : str
        "service account", "application default", "own account", "test server" or "this program" (signed in by other
        code before).
    account : str
        The service account's name, or "your own sign-in"; never a secret.
    project : str
        Cloud project that pays and whose quota counts.
    """

    kind: str
    account: str
    project: str


@dataclass(frozen=True, repr=False)
class Found:
    """Credentials and who they are."""

    kind: str
    credentials: Any
    account: str
    project: str


def find(key: Mapping[str, Any] | None, project: str | None, persisted: Mapping[str, Any] | None) -> Found:
    """Credentials in the order: service account, test server, application default, persisted ones.

    Raises
    ------
    FusionError
        If there are none, or the project is not named.
    """
    given = key if key is not None else _key_file()
    if given is not None:
        found = _service_account(given)
    elif server():
        found = Found("test server", AnonymousCredentials(), "anonymous", "test")  # type: ignore[no-untyped-call]
    else:
        found = _application_default() or _persisted(persisted)
    named = project or (found.project if found.kind == "service account" else "")
    named = named or os.environ.get("FUSION_EE_PROJECT", "").strip() or found.project
    if not named:
        raise FusionError(
            f"Earth Engine wants a Cloud project and got none ({found.account}): set FUSION_EE_PROJECT to the name of "
            "a project that is registered at https://code.earthengine.google.com/register."
        )
    return Found(found.kind, found.credentials, found.account, named)


def server() -> str:
    """Address of another server than Google's, or nothing."""
    return os.environ.get("FUSION_EE_URL", "").strip().rstrip("/")


def _key_file() -> Mapping[str, Any] | None:
    name = os.environ.get("FUSION_EE_KEY", "").strip()
    if not name:
        return None
    try:
        found = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the text of the error may quote the file
        found = None
    if not isinstance(found, dict):
        raise FusionError(
            "FUSION_EE_KEY wants the path of a service account's JSON key file; that file is not there or is no JSON: "
            "name the file that the Google Cloud console gave you."
        )
    return found


def _service_account(key: Mapping[str, Any]) -> Found:
    other = urlsplit(server()).netloc
    if other and urlsplit(str(key.get("token_uri", ""))).netloc != other:
        raise FusionError(
            "FUSION_EE_URL names another server than Google's, and a key for Google is set: it would be sent there. "
            "Unset FUSION_EE_URL, or the key."
        )
    info = {str(name): value for name, value in key.items()}
    try:
        found = service_account.Credentials.from_service_account_info(info, scopes=SCOPES)  # type: ignore[no-untyped-call]
    except (ValueError, google.auth.exceptions.GoogleAuthError):
        raise FusionError(
            "Earth Engine wants a service account's JSON key with client_email, private_key and token_uri; the one "
            "given is incomplete or damaged: copy the whole key file again, line ends of private_key included."
        ) from None
    project = str(info.get("project") or info.get("project_id") or "")
    return Found("service account", found, str(found.service_account_email), project)


def _application_default() -> Found | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no project is set is said by us
            found, project = google.auth.default(scopes=SCOPES)
    except google.auth.exceptions.GoogleAuthError:
        return None
    account = getattr(found, "service_account_email", "") or YOURS
    return Found("application default", found, account, getattr(found, "quota_project_id", None) or project or "")


def _persisted(stored: Mapping[str, Any] | None) -> Found:
    if not stored or not stored.get("refresh_token"):
        raise FusionError(
            "Earth Engine wants a sign-in and found none: put a service account's key into the secrets or "
            "FUSION_EE_KEY, or run `earthengine authenticate` on this computer. Or choose the source STAC, which needs "
            "no account."
        )
    found = own.Credentials(None, **stored)  # type: ignore[no-untyped-call]
    return Found("own account", found, YOURS, stored.get("quota_project_id") or "")

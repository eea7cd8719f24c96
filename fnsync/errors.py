"""Every error the product raises.

    FnsyncError
    ├── Invalid                  400   what the caller sent
    │   ├── CommitRefused              a git hook does not let the edit through
    │   ├── InvalidValves              values that do not fit the function's class; carries the misfits
    │   ├── ContentRefused             a source that does not load; carries the problem
    │   └── FilterRefused              a filter does not let the request through; 400, or what it says
    ├── Unauthorized             401   missing, unknown or insufficient credentials
    ├── NotFound                 404
    │   ├── UnknownModel
    │   ├── UnknownFunction
    │   └── UnknownRef                 no branch, tag or commit of that name
    ├── TimeLimit                408   a function's time limit
    ├── Conflict                 409
    │   ├── StaleEdit                  the edit was based on another version than the newest
    │   ├── OutOfGit                   git does not take changes of the file: ignored, in a submodule, …
    │   ├── Uncommitted                the edit would overwrite changes that are in no commit
    │   ├── RepositoryBlocked          a merge, a rebase or the like waits for its end
    │   ├── WriteDenied                functions are changed through git alone
    │   ├── ReadOnlySource             the function is a source's, and changed there
    │   ├── PullRefused                the working tree cannot go on to what the remote has
    │   ├── SourceRefused              a source's commit is too large, or would leave its folder
    │   └── VerificationFailed         a commit without a signature by one of the keys
    ├── BodyTooLarge             413
    ├── RateLimited              429   with Retry-After
    ├── FunctionError            500   a function's own fault
    │   ├── FunctionRaised             an exception in a handler
    │   ├── LoadFailed                 the revision does not load; carries the problem
    │   │   └── ValvesUnfit                only its stored valves do not fit; carries the misfits
    │   ├── Unrenderable               a result of a type nobody can render
    │   ├── WorkerDied                 the process went away during the call
    │   └── MemoryLimit                the process went over its memory limit
    ├── Unavailable              503   with Retry-After
    │   ├── Draining
    │   ├── Saturated
    │   ├── CrashLoop
    │   ├── RepositoryBusy             git holds its lock
    │   └── NotWritable                a disk that is full or read-only
    ├── UpstreamFailed           502   a provider of models cannot be reached, or answers nonsense
    ├── UpstreamTimeout          504   it takes too long
    ├── FetchFailed              502   a git remote cannot be reached, or refuses
    │   └── AccessRefused              it does not take our credentials, or we do not trust it
    ├── PushFailed               502   what is here cannot be pushed to a git remote; told in the status
    │   └── PushRefused                a hook does not let it through, or a rule of the remote
    ├── ConfigError                    fnsync.yaml or FNSYNC_*; stops the start
    ├── SourceError                    a file that cannot be read or understood; carries the problem
    ├── RepositoryError          503   git failed; with Retry-After
    │   └── LostObject                 a content that the repository does not have
    ├── StoreError                     index or state
    └── EnvironmentFailed              requirements that cannot be installed; carries uv's message

`code` is stable and part of the answer; `status` is the HTTP status; `hint` is the way out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from fnsync.model import Manifest, Misfit, Problem, Quota

#: `refused`: the remote wants other credentials; `corrupt`: what came cannot be used.
FetchReason = Literal["unreachable", "refused", "unknown_ref", "timeout", "corrupt"]


class FnsyncError(Exception):
    """Base of all: `message` says what was found, where, and what was expected."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    #: OpenAI's `error.type`.
    type: ClassVar[str] = "server_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        #: Id of the filter that failed, where one did.
        self.filter: str | None = None

    def __str__(self) -> str:
        return self.message


class Invalid(FnsyncError):
    code, status, type = "invalid", 400, "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        #: The field of the request that is wrong.
        self.param = param


class CommitRefused(Invalid):
    code = "commit_refused"


class InvalidValves(Invalid):
    code = "invalid_valves"

    def __init__(self, misfits: tuple[Misfit, ...], *, about: str | None = None, hint: str | None = None) -> None:
        """The message is `field: message; field2: message2`, with `about` in front."""
        found = "; ".join(map(str, misfits))
        param = misfits[0].field if misfits else None
        super().__init__(f"{about}: {found}" if about else found, param=param, hint=hint)
        self.misfits = misfits


class ContentRefused(Invalid):
    code = "content_refused"

    def __init__(self, message: str, problem: Problem, *, hint: str | None = None) -> None:
        super().__init__(message, param="content", hint=hint or problem.hint)
        self.problem = problem


class FilterRefused(Invalid):
    code = "filter_refused"

    def __init__(self, filter: str, message: str, status: int | None = None, traceback: tuple[str, ...] = ()) -> None:
        """`status`: the filter's own, of an HTTP exception; from 400 to 499."""
        super().__init__(message)
        self.filter = filter
        if status is not None:
            self.status = status  # type: ignore[misc]  # of this one
        #: The entries that lie in the function's own files; for admins only.
        self.traceback = traceback


class Unauthorized(FnsyncError):
    code, status, type = "unauthorized", 401, "authentication_error"


class NotFound(FnsyncError):
    code, status, type = "not_found", 404, "invalid_request_error"


class UnknownModel(NotFound):
    code = "model_not_found"


class UnknownFunction(NotFound):
    code = "function_not_found"


class UnknownRef(NotFound):
    code = "ref_not_found"


class TimeLimit(FnsyncError):
    code, status, type = "time_limit", 408, "timeout_error"


class Conflict(FnsyncError):
    code, status, type = "conflict", 409, "invalid_request_error"


class StaleEdit(Conflict):
    code = "stale_edit"


class Uncommitted(Conflict):
    code = "uncommitted"


class OutOfGit(Conflict):
    code = "out_of_git"


class RepositoryBlocked(Conflict):
    code = "repository_blocked"


class WriteDenied(Conflict):
    code = "write_denied"


class ReadOnlySource(Conflict):
    code = "read_only_source"


class PullRefused(Conflict):
    code = "pull_refused"


class PullHeld(PullRefused):
    """What is fetched waits; see fnsync.holds."""

    code = "pull_held"


class SourceRefused(Conflict):
    code = "source_refused"


class VerificationFailed(Conflict):
    code = "verification_failed"


class BodyTooLarge(FnsyncError):
    code, status, type = "body_too_large", 413, "invalid_request_error"


class RateLimited(FnsyncError):
    code, status, type = "rate_limited", 429, "rate_limit_error"

    def __init__(
        self, message: str, *, retry_after_s: float, hint: str | None = None, quota: Quota | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s
        self.quota = quota


class FunctionError(FnsyncError):
    """A function's own fault; `function` is its id."""

    code, status = "function_error", 500

    def __init__(self, function: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.function = function


class FunctionRaised(FunctionError):
    code = "function_raised"

    def __init__(
        self,
        function: str,
        exception: str,
        message: str,
        traceback: tuple[str, ...] = (),
        http_status: int | None = None,
    ) -> None:
        super().__init__(function, message or exception)
        #: The exception's class name.
        self.exception = exception
        #: Of an HTTP exception.
        self.http_status = http_status
        #: The entries that lie in the function's own files; for admins only.
        self.traceback = traceback


class LoadFailed(FunctionError):
    code = "load_failed"

    def __init__(self, function: str, problem: Problem) -> None:
        super().__init__(function, str(problem), hint=problem.hint)
        self.problem = problem


class ValvesUnfit(LoadFailed):
    def __init__(
        self, function: str, problem: Problem, misfits: tuple[Misfit, ...], manifest: Manifest | None = None
    ) -> None:
        super().__init__(function, problem)
        self.misfits = misfits
        #: What the revision is, where it was loaded to find out.
        self.manifest = manifest


class Unrenderable(FunctionError):
    code = "unrenderable_result"


class WorkerDied(FunctionError):
    code = "worker_died"


class MemoryLimit(WorkerDied):
    code = "memory_limit"


class Unavailable(FnsyncError):
    code, status = "unavailable", 503

    def __init__(self, message: str, *, retry_after_s: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Draining(Unavailable):
    code = "draining"


class Saturated(Unavailable):
    code = "saturated"


class CrashLoop(Unavailable):
    code = "crash_loop"


class RepositoryBusy(Unavailable):
    code = "repository_busy"


class NotWritable(Unavailable):
    code = "not_writable"


class UpstreamFailed(FnsyncError):
    code, status, type = "upstream_failed", 502, "upstream_error"


class UpstreamTimeout(FnsyncError):
    code, status, type = "upstream_timeout", 504, "upstream_error"


class FetchFailed(FnsyncError):
    code, status, type = "fetch_failed", 502, "upstream_error"

    #: What kind of failure it is; stable.
    reason: FetchReason = "unreachable"

    def __init__(self, message: str, *, reason: FetchReason | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason or self.reason


class AccessRefused(FetchFailed):
    code = "access_refused"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = "refused"


class PushFailed(FnsyncError):
    code, status, type = "push_failed", 502, "upstream_error"


class PushRefused(PushFailed):
    code = "push_refused"


class ConfigError(FnsyncError):
    code = "config"


class SourceError(FnsyncError):
    code, status, type = "source", 400, "invalid_request_error"

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem), hint=problem.hint)
        self.problem = problem


class RepositoryError(FnsyncError):
    code, status = "repository", 503
    retry_after_s = 10.0


class LostObject(RepositoryError):
    code = "lost_object"


class StoreError(FnsyncError):
    code = "store"


class EnvironmentFailed(FnsyncError):
    code = "environment"

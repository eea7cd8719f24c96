"""Changes of the functions folder, as debounced batches of paths.

watchdog reads inotify; here it is decided what counts as a change and when a batch is whole. A folder that
appears, moves or goes is one path: who gets it looks inside. Whenever events may have been lost the batch is
None, "look at everything", and so it is at each tick; where inotify does not work, ticks are all there is.

    inotify thread --> _Folders (what counts) --> Debounce (when) --> watcher thread --> changes() on the loop
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from watchdog.utils import UnsupportedLibcError

if TYPE_CHECKING:
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, Mask, WatchDescriptor

log = logging.getLogger(__name__)

#: A batch is handed over when nothing has come for so long …
QUIET_S = 0.005
#: … or when its first path is so old. A file that is being written is waited for as long.
MOST_S = 0.2
#: How long a batch is held while git changes the working tree.
HOLD_S = 10.0
#: How often the lock is looked at meanwhile.
LOCK_POLL_S = 0.005
#: Time between looks at everything, with inotify and without.
RESCAN_S = 10.0
POLL_S = 1.0
#: After which inotify is tried again when a limit was in the way.
RETRY_S = 30.0
#: The same when the folder is not there; doubles up to POLL_S.
FIRST_RETRY_S = 0.01


class Debounce:
    """Collects paths until a batch is whole. Pure: every method is told the time, in seconds."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        #: Files that are being written, and since when.
        self._written: dict[str, float] = {}
        self._everything = False
        self._first = 0.0
        self._last = 0.0
        #: Whether the last look found a whole batch and git's lock.
        self.held = False

    def add(self, path: str, now: float) -> None:
        """A path has changed, and is done."""
        self._touch(now)
        self._written.pop(path, None)
        self._paths.add(path)

    def begin(self, path: str, now: float) -> None:
        """A file is being written; its end will be told by `add`, or else is assumed after MOST_S."""
        if path not in self._paths:
            self._written.setdefault(path, now)

    def lose(self, now: float) -> None:
        """Anything may have changed."""
        self._touch(now)
        self._everything = True

    def due(self) -> float | None:
        """When the next batch may be whole; None: nothing is waiting."""
        times = [since + MOST_S for since in self._written.values()]
        if self._waiting:
            times.append(min(self._last + QUIET_S, self._first + MOST_S))
        return min(times, default=None)

    def take(self, now: float, locked: Callable[[], bool]) -> tuple[frozenset[str], bool] | None:
        """The batch, if it is whole and git does not hold its lock: (paths, whether anything else may have changed)."""
        for path in [path for path, since in self._written.items() if now >= since + MOST_S]:
            self.add(path, now - QUIET_S)
        whole = self._waiting and now >= min(self._last + QUIET_S, self._first + MOST_S)
        self.held = whole and now < self._first + HOLD_S and locked()
        if not whole or self.held:
            return None
        batch = frozenset(self._paths), self._everything
        self._paths.clear()
        self._everything = False
        return batch

    @property
    def _waiting(self) -> bool:
        return bool(self._paths) or self._everything

    def _touch(self, now: float) -> None:
        if not self._waiting:
            self._first = now
        self._last = max(self._last, now)


class Watcher:
    """Watches a folder from its construction on, so that nothing is missed between a first scan and `changes`.

    `locked` tells whether git is at work; `ignore` is asked about relative paths of files and folders, and what it
    says no to is neither reported nor watched. Both are called from threads. A missing folder is waited for.
    """

    def __init__(
        self,
        root: Path,
        *,
        locked: Callable[[], bool],
        ignore: Callable[[str], bool] | None = None,
        rescan_s: float = RESCAN_S,
        poll_s: float = POLL_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._root = root
        self._locked = locked
        self._ignore = ignore or (lambda path: False)
        self._rescan_s, self._poll_s, self._retry_s = rescan_s, poll_s, retry_s
        self._debounce = Debounce()
        self._outbox = _Outbox()
        #: Guards `_debounce`; told when the thread has to wake up earlier than it meant to.
        self._news = threading.Condition()
        self._wake_at = 0.0
        self._closed = False
        self._folders: _Folders | None = None
        #: Why there is no inotify now; shown to people.
        self.problem: str | None = None
        self._missing_s = FIRST_RETRY_S
        self._retry_at = 0.0
        self._tick_at = 0.0
        now = time.monotonic()
        self._connect(now)
        self._tick_at = now + self._interval_s
        self._thread = threading.Thread(target=self._run, name="fnsync-watch", daemon=True)
        self._thread.start()

    @property
    def mode(self) -> Literal["inotify", "polling"]:
        return "inotify" if self.problem is None else "polling"

    async def changes(self) -> AsyncIterator[frozenset[str] | None]:
        """Batches of relative paths (files or folders) that changed; None: anything may have. For one reader.

        What comes while the reader is busy is joined. Ends at `close`.
        """
        async for paths, everything in self._outbox.batches():
            if paths:
                yield paths
            if everything:
                yield None

    def close(self) -> None:
        """End the threads and `changes`. The second call does nothing."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()
        self._outbox.close()

    # ---- from the inotify thread -------------------------------------------------------------------------

    def _changed(self, path: str, done: bool) -> None:
        with self._news:
            now = time.monotonic()
            if done:
                self._debounce.add(path, now)
            else:
                self._debounce.begin(path, now)
            due = self._debounce.due()
            if due is not None and due < self._wake_at:
                self._news.notify()

    def _broken(self) -> None:
        with self._news:
            self._news.notify()

    # ---- the watcher thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                try:
                    self._step(time.monotonic())
                except (
                    Exception
                ) as exc:  # from `ignore` or `locked`; without this thread nothing would be noticed any more
                    log.exception("looking for changes failed; it goes on in %g s", self._poll_s)
                    self._tick_at = self._retry_at = time.monotonic() + self._poll_s
                    if self._folders is None:
                        self.problem = f"looking for changes failed: {exc}"
                with self._news:
                    self._sleep()
        finally:
            self._disconnect()

    def _step(self, now: float) -> None:
        """One look at all that can be due."""
        folders = self._folders
        if folders is not None and (folders.broken or (now >= self._tick_at and folders.replaced())):
            self._disconnect()
            self._retry_at = self._tick_at = now
        if self._folders is None and now >= self._retry_at and self._connect(now):
            self._tick_at = now  # what happened in between was not seen
        if now >= self._tick_at:
            with self._news:
                self._debounce.lose(now)
            self._tick_at = now + self._interval_s
        with self._news:
            batch = self._debounce.take(now, self._locked)
        if batch is not None:
            self._outbox.put(*batch)

    def _sleep(self) -> None:
        """Until something is due or news come. Under `_news`."""
        now = time.monotonic()
        times = [self._tick_at] if self._folders is not None else [self._tick_at, self._retry_at]
        if (due := self._debounce.due()) is not None:
            times.append(now + LOCK_POLL_S if self._debounce.held else due)
        self._wake_at = min(times)
        broken = self._folders is not None and self._folders.broken
        if not self._closed and not broken and self._wake_at > now:
            self._news.wait(self._wake_at - now)

    @property
    def _interval_s(self) -> float:
        return self._poll_s if self._folders is None else self._rescan_s

    # ---- inotify on and off ------------------------------------------------------------------------------

    def _connect(self, now: float) -> bool:
        """Begin to watch, or note why that is not possible and when to try again."""
        was = self.problem
        try:
            self._folders = _Folders(self._root, self._ignore, self._changed, self._broken)
        except (FileNotFoundError, NotADirectoryError):
            self.problem = f"the functions folder {self._root} is not there"
            self._retry_at = now + self._missing_s
            self._missing_s = min(self._missing_s * 2, self._poll_s)
        except OSError as exc:
            self.problem = _explained(exc)
            self._retry_at = now + self._retry_s
        else:
            self.problem = None
            self._missing_s = FIRST_RETRY_S
        if self.problem is not None and self.problem != was:
            log.warning("changes are looked for every %g s instead: %s", self._poll_s, self.problem)
        if was is not None and self.problem is None:
            log.info("changes are watched again")
        return self._folders is not None

    def _disconnect(self) -> None:
        folders, self._folders = self._folders, None
        if folders is not None:
            folders.close()


class _Folders:
    """The inotify watches of a folder and of all folders in it; turns inotify's events into changed paths.

    Raises OSError when the folder is not there, a limit is reached, or there is no inotify here.
    """

    def __init__(
        self,
        root: Path,
        ignore: Callable[[str], bool],
        changed: Callable[[str, bool], None],
        failed: Callable[[], None],
    ) -> None:
        try:  # not on every platform
            from watchdog.observers.inotify_c import InotifyConstants, InotifyFD
        except (ImportError, AttributeError, UnsupportedLibcError) as exc:
            raise OSError(errno.ENOSYS, "inotify is not available here") from exc
        self._is = InotifyConstants
        self._root = root
        self._ignore, self._changed, self._failed = ignore, changed, failed
        #: Set when events may be lost from now on.
        self.broken = False
        self._identity = _identity(root)
        self._lock = threading.Lock()
        #: Watch -> its folder's relative path, and the number it was registered under.
        self._watches: dict[WatchDescriptor, tuple[str, CallbackId]] = {}
        self._numbers = itertools.count()
        # Opened and closed without a write, read, or only attributes changed: no change, so not asked for.
        constants = InotifyConstants
        mask = constants.IN_MODIFY | constants.IN_CLOSE_WRITE | constants.IN_MOVE | constants.IN_CREATE
        mask |= constants.IN_DELETE | constants.IN_DELETE_SELF | constants.IN_MOVE_SELF | constants.IN_ONLYDIR
        self._mask: Mask = mask  # type: ignore[assignment]  # flags joined are flags
        self._inotify = InotifyFD()
        self._inotify.start()  # its descriptors are closed by its thread
        try:
            self._watch("")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._inotify.stop()
        self._inotify.join()

    def replaced(self) -> bool:
        """Whether another folder, or none, is now found under the root's path."""
        try:
            return _identity(self._root) != self._identity
        except OSError:
            return True

    # ---- what inotify tells (watchdog's WatchCallback) ---------------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        try:
            self._take(event)
        except Exception as exc:  # it would end the inotify thread; whatever it was, a new start heals it
            if not isinstance(exc, OSError):
                log.exception("an event of the functions folder was lost")
            self._break()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        with self._lock:
            self._watches.pop(wd, None)

    def on_queue_overflow(self) -> None:
        self._break()

    def _break(self) -> None:
        self.broken = True
        self._failed()

    def _take(self, event: InotifyEvent) -> None:
        with self._lock:
            watch = self._watches.get(event.wd)
        if watch is None:  # of a folder that is not watched any more
            return
        folder, _ = watch
        if not event.name:
            if not folder:  # the root itself was deleted, moved or unmounted
                self._break()
            return
        path = _joined(folder, os.fsdecode(event.name))
        if not self._ignore(path):
            self._report(path, event)

    def _report(self, path: str, event: InotifyEvent) -> None:
        if event.is_directory:
            if event.is_moved_from:
                self._unwatch(path)
            elif event.is_create or event.is_moved_to:
                self._watch(path)
            self._changed(path, True)
        elif event.is_modify or event.is_create:
            # Its close will be told; a link is never written and has no close.
            self._changed(path, event.is_create and self._is_link(path))
        else:
            self._changed(path, True)

    def _is_link(self, path: str) -> bool:
        try:
            status = os.lstat(self._root / path)
        except OSError:
            return False
        return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1

    # ---- watches -----------------------------------------------------------------------------------------

    def _watch(self, path: str) -> None:
        """Watch a folder and those in it. The watch comes before the look inside, so nothing falls between them."""
        waiting = [path]
        while waiting:
            folder = waiting.pop()
            try:
                self._add(folder)
                with os.scandir(self._root / folder) as entries:
                    inner = [_joined(folder, entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError as exc:
                if not folder or exc.errno in (errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise
                continue  # it is gone again, or may not be read
            waiting += [name for name in inner if not self._ignore(name)]

    def _add(self, path: str) -> None:
        # The root may be a link, what is in it may not.
        mask = self._mask if not path else self._mask | self._is.IN_DONT_FOLLOW
        number: CallbackId = next(self._numbers)  # type: ignore[assignment]  # any value that is used once
        with self._lock:
            wd = self._inotify.add_callback(os.fsencode(self._root / path), mask, self, number)  # type: ignore[arg-type]
            if wd == -1:  # what watchdog makes of a folder that may not be read
                return
            old = self._watches.get(wd)
            self._watches[wd] = (path, number)
            if old is not None:  # the folder was known under another name
                self._inotify.remove_callbacks([(wd, old[1])])

    def _unwatch(self, path: str) -> None:
        """Forget a folder that was moved away; where it went to, it is watched anew."""
        with self._lock:
            gone = [
                (wd, number)
                for wd, (folder, number) in self._watches.items()
                if folder == path or folder.startswith(path + "/")
            ]
            for wd, _ in gone:
                del self._watches[wd]
            self._inotify.remove_callbacks(gone)


class _Outbox:
    """Hands batches from a thread to one asynchronous reader; what the reader has not taken yet is joined."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._everything = False
        self._closed = False
        self._reader: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def put(self, paths: frozenset[str], everything: bool) -> None:
        with self._lock:
            self._paths |= paths
            self._everything |= everything
            self._wake()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._wake()

    async def batches(self) -> AsyncIterator[tuple[frozenset[str], bool]]:
        news = asyncio.Event()
        with self._lock:
            self._reader = asyncio.get_running_loop(), news
        try:
            while not self._closed:
                paths, everything = self._take()
                if paths or everything:
                    yield paths, everything
                else:
                    await news.wait()
                news.clear()
        finally:
            with self._lock:
                self._reader = None

    def _take(self) -> tuple[frozenset[str], bool]:
        with self._lock:
            taken = frozenset(self._paths), self._everything
            self._paths.clear()
            self._everything = False
        return taken

    def _wake(self) -> None:
        if self._reader is not None:
            loop, news = self._reader
            with suppress(RuntimeError):  # the loop is closed, and with it the reader gone
                loop.call_soon_threadsafe(news.set)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _explained(exc: OSError) -> str:
    """Why inotify cannot be used, with the way out."""
    if exc.errno == errno.ENOSPC:
        return "the limit of inotify watches is reached; raise it: sysctl fs.inotify.max_user_watches=524288"
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return (
            "the limit of inotify instances or open files is reached; "
            "raise it: sysctl fs.inotify.max_user_instances=512, or ulimit -n"
        )
    return f"inotify cannot be used: {exc.strerror or exc}"

"""Locks on files and folders, by which two processes do not write the same."""

import errno
import fcntl

# Answers of network and foreign file systems that know no locks, or do not sync folders.
NOT_SUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK, errno.ENOSYS)


def locked(descriptor: int) -> bool:
    """Take the lock on an open file or folder, which is held until it is closed.

    False where another process holds it. True, with nothing held, where the file system knows no
    locks: that is no reason to refuse the work. OSError for anything else.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
    return True

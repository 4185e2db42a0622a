/*
 * Preloaded under a process that uses a store (LD_PRELOAD), this library knows what a disk would
 * still hold after a loss of power: it notes the size of each file at each fsync and fdatasync.
 * It can also play a bad disk. Only files below LOCKSTEP_SHIM_DIRECTORY are looked at.
 *
 *   LOCKSTEP_SHIM_NOTES        file to which a line "<inode> <synced size>" is appended: size 0
 *                              when a file is created, its size at every sync that succeeded
 *   LOCKSTEP_SHIM_FAIL_SYNC    n: the n-th sync of a log (*.log) fails with EIO, once
 *   LOCKSTEP_SHIM_LIE_AFTER    n: every later sync of a log says it succeeded and does nothing
 *
 * sync_file_range is let through and not noted: it promises nothing about sizes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int notes = -1;
static const char *directory = NULL;
static long fail_sync = 0, lie_after = 0;
static atomic_long log_syncs = 0;

__attribute__((constructor)) static void start(void)
{
    const char *path = getenv("LOCKSTEP_SHIM_NOTES");
    const char *fail = getenv("LOCKSTEP_SHIM_FAIL_SYNC");
    const char *lie = getenv("LOCKSTEP_SHIM_LIE_AFTER");
    directory = getenv("LOCKSTEP_SHIM_DIRECTORY");
    if (path != NULL)
        notes = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fail != NULL)
        fail_sync = atol(fail);
    if (lie != NULL)
        lie_after = atol(lie);
}

/* Whether fd is a regular file below the directory; its path and state then. */
static int looked_at(int fd, char *path, size_t size, struct stat *state)
{
    char link[64];
    if (directory == NULL || fstat(fd, state) != 0 || !S_ISREG(state->st_mode))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    return strncmp(path, directory, strlen(directory)) == 0;
}

static void note(const struct stat *state, long long size)
{
    char line[96];
    int length = snprintf(line, sizeof line, "%llu %lld\n", (unsigned long long)state->st_ino, size);
    /* One write of a short line to a file opened for appending stays whole. */
    if (notes >= 0 && write(notes, line, (size_t)length) != length)
        abort();
}

static int sync_with(int fd, const char *name)
{
    char path[PATH_MAX];
    struct stat state;
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (!looked_at(fd, path, sizeof path, &state))
        return next(fd);
    const char *dot = strrchr(path, '.');
    if (dot != NULL && strcmp(dot, ".log") == 0) {
        long count = atomic_fetch_add(&log_syncs, 1) + 1;
        if (count == fail_sync) {
            errno = EIO;
            return -1;
        }
        if (lie_after > 0 && count > lie_after)
            return 0;
    }
    int result = next(fd);
    /* The size was read before the sync began: what came meanwhile may not be in it. */
    if (result == 0)
        note(&state, state.st_size);
    return result;
}

int fsync(int fd) { return sync_with(fd, "fsync"); }
int fdatasync(int fd) { return sync_with(fd, "fdatasync"); }

/* A new file may get the inode of one that is gone: forget what was synced there. */
static int opened(int fd, int flags)
{
    char path[PATH_MAX];
    struct stat state;
    int saved = errno;
    if (fd >= 0 && (flags & O_CREAT) != 0 && looked_at(fd, path, sizeof path, &state) && state.st_size == 0)
        note(&state, 0);
    errno = saved;
    return fd;
}

#define OPEN(name)                                                                   \
    int name(const char *path, int flags, ...)                                       \
    {                                                                                \
        int (*next)(const char *, int, ...) =                                        \
            (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                \
        va_list rest;                                                                \
        va_start(rest, flags);                                                       \
        int mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, int) : 0;     \
        va_end(rest);                                                                \
        return opened(next(path, flags, mode), flags);                               \
    }
OPEN(open)
OPEN(open64)

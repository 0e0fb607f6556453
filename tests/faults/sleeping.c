/* Goes before libfaketime, whose clock_nanosleep fails (EINVAL) once the wall clock is stepped and the monotonic one is not:
 * Python's time.sleep would raise. Sleeping needs no false clock. */
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remain) {
  return syscall(SYS_clock_nanosleep, clock, flags, request, remain) == 0 ? 0 : errno;
}

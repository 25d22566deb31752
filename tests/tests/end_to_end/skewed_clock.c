/* Puts a program's wall clock FREEHOLD_TEST_SKEW_S seconds ahead; for LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int (*real)(clockid_t, struct timespec *) =
        (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int outcome = real(clock, now);
    const char *skew = getenv("FREEHOLD_TEST_SKEW_S");
    if (outcome == 0 && clock == CLOCK_REALTIME && skew)
        now->tv_sec += atoi(skew);
    return outcome;
}

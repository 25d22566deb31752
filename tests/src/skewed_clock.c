/* Puts a program's wall clock FREEHOLD_TEST_SKEW_S seconds ahead; for LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static long skew_s;

__attribute__((constructor)) static void look(void)
{
    const char *skew = getenv("FREEHOLD_TEST_SKEW_S");
    skew_s = skew ? atol(skew) : 0;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    /* Somebody else's constructor may come first. */
    if (!real)
        look();
    int outcome = real(clock, now);
    if (outcome == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += skew_s;
    return outcome;
}

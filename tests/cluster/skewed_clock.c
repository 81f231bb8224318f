/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into what runs in a lab, makes the clocks of its hosts disagree.
 * SKEWS is "h1=-7200,h2=7200": by how many seconds that of each HEDDLE_HOST is
 * wrong. CLOCK_MONOTONIC is right.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static long skew(void)
{
	const char *host = getenv("HEDDLE_HOST"), *at = getenv("SKEWS");
	size_t length = host ? strlen(host) : 0;

	while (at && length) {
		if (!strncmp(at, host, length) && at[length] == '=')
			return atol(at + length + 1);
		at = strchr(at, ',');
		at = at ? at + 1 : NULL;
	}
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	int outcome = real(clock, now);

	if (!outcome && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += skew();
	return outcome;
}

time_t time(time_t *now)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	if (now)
		*now = at.tv_sec;
	return at.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec at;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &at);
	now->tv_sec = at.tv_sec;
	now->tv_usec = at.tv_nsec / 1000;
	return 0;
}

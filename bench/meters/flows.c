/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time per frame of established flows from one container to another, and
 * per first frame of a new flow.
 *
 * As in frames.c, live XDP frames leave a container's veth and a tc program at
 * the other container's counts and drops them. First each flow sends one frame,
 * which is timed; then the other side answers in each, so that trackers of
 * connections know it as established; then each sends a later frame, timed in
 * the same way, and at last frames of all flows in turn are timed. The time of a daemon that forwards is told apart, since it may not
 * keep up: then it is the time for the delivered frames, not for the sent.
 *
 * Settings: PROGRAMS, SWITCH_NETNS, SENDER_NETNS, RECEIVER_NETNS, DEVICE (in
 * both), SENDER_PORT and RECEIVER_PORT (their host ends), SOURCE_MAC,
 * DESTINATION_MAC, REPLY_SOURCE_MAC, REPLY_DESTINATION_MAC, SOURCE_IP,
 * DESTINATION_IP, FLOWS, FIRST_FLOW (number), STRIDE (between
 * numbers), FIRST_PORT, CPU, SOFTIRQD_SCHEDSTAT (of that
 * CPU's ksoftirqd), DAEMON_TASKS (folder of /proc with the daemon's tasks, or
 * empty), MILLISECONDS.
 * Prints {"first_sent", "first_delivered", "first_cpu_ns", "later_cpu_ns",
 * "sent", "delivered", "cpu_ns", "daemon_ns"}.
 */
#include "generator.h"
#include <dirent.h>

/* CPU time of all tasks of the daemon. */
static uint64_t daemon_ns(void)
{
	const char *folder = setting("DAEMON_TASKS");
	uint64_t sum = 0;
	struct dirent *task;
	char path[512];

	if (!*folder)
		return 0;
	DIR *tasks = opendir(folder);

	if (!tasks)
		err(1, "%s", folder);
	while ((task = readdir(tasks))) {
		if (task->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s/schedstat", folder, task->d_name);
		sum += schedstat_ns(path);
	}
	closedir(tasks);
	return sum;
}

/* CPU time of one frame of each flow. */
static uint64_t round_ns(struct generator *generator, uint64_t *delivered)
{
	uint64_t cpu_ns = own_ns();

	*delivered = one_of_each(generator);
	return own_ns() - cpu_ns;
}

static void open_flows(struct generator *opener, struct generator *replier)
{
	uint64_t delivered, again;
	uint64_t first_ns = round_ns(opener, &delivered);

	one_of_each(replier);
	one_of_each(opener);
	printf("{\"first_sent\": %u, \"first_delivered\": %lu, \"first_cpu_ns\": %lu, ",
	       opener->recipe.flows, delivered, first_ns);
	printf("\"later_cpu_ns\": %lu", round_ns(opener, &again));
}

static void measure(struct generator *opener)
{
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull, sent = 0;

	start_over(opener);
	send_frames(opener, SLICE); /* warms caches up */
	uint64_t delivered = delivered_frames(opener->object);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);
	uint64_t cpu_ns = own_ns(), spent = daemon_ns();

	do {
		send_frames(opener, SLICE);
		sent += SLICE;
	} while (clock_ns(CLOCK_MONOTONIC) - start < duration);
	printf(", \"sent\": %lu, \"delivered\": %lu, \"cpu_ns\": %lu, \"daemon_ns\": %lu}\n", sent,
	       delivered_frames(opener->object) - delivered, own_ns() - cpu_ns,
	       daemon_ns() - spent);
}

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	struct generator opener, replier;

	new_generators(object, IPPROTO_UDP, &opener, &replier);
	open_flows(&opener, &replier);
	measure(&opener);
	remove_sinks();
	return 0;
}

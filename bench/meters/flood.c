/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flood the switch from a container, for a bounded time and with a bounded
 * number of frames of 64 bytes.
 *
 * Settings: PROGRAMS, SWITCH_NETNS, SENDER_NETNS, SENDER_PORT (its host end),
 * DEVICE, SOURCE_MAC, DESTINATION_MAC, SOURCE_IP, DESTINATION_IP, PROTOCOL (17:
 * UDP, 6: TCP with SYN), FLOWS, FIRST_FLOW, FIRST_PORT, CPU, MILLISECONDS.
 * Prints {"sent": frames, "wall_ns": ns}.
 */
#include "generator.h"

#define FRAMES_MAX 20000000ull

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	struct generator generator =
		new_generator(object, setting("SENDER_NETNS"), setting("SENDER_PORT"));
	uint64_t duration = number_setting("MILLISECONDS") * 1000000ull, sent = 0;

	address_frame(&generator.recipe, setting("SOURCE_MAC"), setting("DESTINATION_MAC"),
		      setting("SOURCE_IP"), setting("DESTINATION_IP"));
	fill_frame(&generator.recipe, number_setting("PROTOCOL"));
	pin_to(number_setting("CPU"));
	start_over(&generator);
	uint64_t start = clock_ns(CLOCK_MONOTONIC);

	for (; clock_ns(CLOCK_MONOTONIC) - start < duration && sent < FRAMES_MAX; sent += SLICE)
		send_frames(&generator, SLICE);
	printf("{\"sent\": %lu, \"wall_ns\": %lu}\n", sent, clock_ns(CLOCK_MONOTONIC) - start);
	return 0;
}

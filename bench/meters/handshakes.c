/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What new TCP connections cost the switch alone: the frames of which they
 * consist, without the TCP of the two ends: SYN, SYN+ACK, ACK, FIN+ACK, FIN+ACK,
 * ACK. A batch of connections goes along together (flows.bpf.c), all of them in
 * one system call.
 *
 * Settings: as flows.c, without DAEMON_TASKS and MILLISECONDS; FLOWS is the
 * number of connections, a multiple of TOGETHER.
 * Prints {"sent", "delivered", "cpu_ns"}.
 */
#include "generator.h"

/* A map of devices takes those of the namespace that its writer is in. */
static void put_end(struct bpf_object *object, uint32_t number, const struct generator *generator)
{
	uint32_t ifindex = generator->ifindex;

	if (setns(generator->netns, CLONE_NEWNET) ||
	    bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "ends"), &number, &ifindex,
				0))
		err(1, "device of an end");
}

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	uint64_t sent = number_setting("FLOWS") * CONVERSATION_FRAMES, before, cpu_ns;
	struct generator opener, replier;

	new_generators(object, IPPROTO_TCP, &opener, &replier);
	put_end(object, 0, &opener);
	put_end(object, 1, &replier);
	memcpy(opener.recipe.reply_frame, replier.recipe.frame, FRAME_BYTES);
	opener.program = "converse";
	start_over(&opener);
	before = delivered_frames(object);
	cpu_ns = own_ns();
	send_frames(&opener, sent);
	cpu_ns = own_ns() - cpu_ns;
	await_delivery(object, before + sent);
	printf("{\"sent\": %lu, \"delivered\": %lu, \"cpu_ns\": %lu}\n", sent,
	       delivered_frames(object) - before, cpu_ns);
	remove_sinks();
	return 0;
}

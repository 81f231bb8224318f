/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What new TCP connections cost the switch alone: the frames of which they
 * consist, without the TCP of the two ends. FLOWS connections go along together:
 * all send SYN, then SYN+ACK, ACK, FIN+ACK, FIN+ACK and ACK; then the next FLOWS.
 *
 * Settings: as flows.c, without DAEMON_TASKS and MILLISECONDS; CONNECTIONS (a
 * multiple of FLOWS).
 * Prints {"sent", "delivered", "cpu_ns"}.
 */
#include "generator.h"

static const struct {
	bool reply;
	uint8_t flags;
} conversation[] = {
	{ false, TCP_SYN },	      { true, TCP_SYN | TCP_ACK }, { false, TCP_ACK },
	{ false, TCP_FIN | TCP_ACK }, { true, TCP_FIN | TCP_ACK }, { false, TCP_ACK },
};

#define FRAMES (sizeof(conversation) / sizeof(*conversation))

/* Returns the number of delivered frames. */
static uint64_t converse(struct generator *opener, struct generator *replier)
{
	uint64_t delivered = 0;

	for (size_t i = 0; i < FRAMES; i++) {
		struct generator *sender = conversation[i].reply ? replier : opener;

		fill_frame(&sender->recipe, IPPROTO_TCP, conversation[i].flags);
		delivered += one_of_each(sender);
	}
	return delivered;
}

int main(void)
{
	struct bpf_object *object = load_programs(setting("PROGRAMS"));
	long connections = number_setting("CONNECTIONS"), sent = 0;
	struct generator opener, replier;
	uint64_t delivered = 0, cpu_ns;

	new_generators(object, &opener, &replier);
	cpu_ns = own_ns();
	for (; sent < connections * (long)FRAMES; sent += opener.recipe.flows * FRAMES) {
		delivered += converse(&opener, &replier);
		opener.recipe.first_flow += opener.recipe.flows;
		replier.recipe.first_flow += opener.recipe.flows;
	}
	cpu_ns = own_ns() - cpu_ns;
	printf("{\"sent\": %ld, \"delivered\": %lu, \"cpu_ns\": %lu}\n", sent, delivered, cpu_ns);
	remove_sinks();
	return 0;
}

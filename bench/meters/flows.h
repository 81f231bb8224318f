/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the generator of many flows and its BPF programs agree about. */
#pragma once

#include <linux/types.h>

#define FRAME_BYTES 60 /* 64 with the frame check sequence */
#define PORTS_OFFSET 34 /* in a frame of IPv4 without options */
#define MARK_OFFSET 56 /* behind a TCP header, in the data of UDP */
#define MARK 0x6c64642e
#define OPENER_PORT 1024 /* the first one */
#define OPENER_PORTS 50000

/* A conversation is a TCP connection from SYN to the last ACK. */
#define CONVERSATION_FRAMES 6
#define TOGETHER 64 /* conversations that go along together: what is sent as one batch */
#define TCP_FLAGS_OFFSET 47
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_ACK 16

struct ports {
	__u16 source;
	__u16 destination;
};

/* Frames of so many flows in turn, to be sent by the opener or by the other side. */
struct recipe {
	__u8 frame[FRAME_BYTES];
	__u8 reply_frame[FRAME_BYTES]; /* of a conversation */
	__u32 other_port; /* the other side's; the next one when all of the opener's are used */
	__u32 first_flow;
	__u32 stride; /* between the numbers of two flows */
	__u32 flows;
	__u32 reply;
};

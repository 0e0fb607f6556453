/*
 * delaying QUEUE MILLISECONDS: lets each packet of a netfilter queue go on that much later, in the order in which they came.
 * For kernels without tc netem. Prints "ready" once it holds the queue; ends with a signal, and what it held is dropped then.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

enum { MOST_HELD = 1 << 14 }; /* the kernel's queue is as long: no packet more can be with us */

static struct { uint32_t id; int64_t due; } held[MOST_HELD];
static unsigned first, count;
static int64_t delay;

static int64_t now(void) /* milliseconds */
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int hold(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data, void *nothing)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	unsigned place = (first + count) % MOST_HELD;
	(void)message, (void)nothing;
	if (count == MOST_HELD)
		return nfq_set_verdict(queue, ntohl(header->packet_id), NF_DROP, 0, NULL);
	held[place].id = ntohl(header->packet_id);
	held[place].due = now() + delay;
	count++;
	return 0;
}

int main(int words, char **word)
{
	struct nfq_handle *handle = nfq_open();
	struct nfq_q_handle *queue = words == 3 && handle ? nfq_create_queue(handle, atoi(word[1]), hold, NULL) : NULL;
	struct pollfd wait = {.events = POLLIN};
	static char buffer[1 << 16];
	int yes = 1;

	if (!queue || nfq_set_mode(queue, NFQNL_COPY_META, 0) < 0 || nfq_set_queue_maxlen(queue, MOST_HELD) < 0) {
		perror("delaying");
		return 1;
	}
	delay = atoi(word[2]);
	wait.fd = nfq_fd(handle);
	setsockopt(wait.fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &yes, sizeof yes);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int64_t left = count ? held[first].due - now() : -1;
		poll(&wait, 1, !count ? -1 : left > 0 ? (int)left : 0);
		for (;;) {
			ssize_t size = recv(wait.fd, buffer, sizeof buffer, MSG_DONTWAIT);
			if (size < 0)
				break;
			nfq_handle_packet(handle, buffer, (int)size);
		}
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
			return 1;
		while (count && held[first].due <= now()) {
			nfq_set_verdict(queue, held[first].id, NF_ACCEPT, 0, NULL);
			first = (first + 1) % MOST_HELD;
			count--;
		}
	}
}

/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Empty: BCC includes it and needs nothing of it. */

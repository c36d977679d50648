/** Of `setTimeout`, in milliseconds: it fires at once for a longer delay. */
export const longestTimerMs = 2 ** 31 - 1;

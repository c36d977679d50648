/** An answer that is expensive to make and the same for all: one is made for all that ask while it is made. */
export function sharedAnswer<T>(make: () => Promise<T>): () => Promise<T> {
  let current: Promise<T> | null = null;
  return () => {
    if (current !== null) return current;
    const made = make();
    current = made;
    const forget = (): void => {
      current = null;
    };
    made.then(forget, forget);
    return made;
  };
}

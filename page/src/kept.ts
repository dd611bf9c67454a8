// What this browser keeps, as JSON in its local storage; in memory where the browser keeps nothing.

const PREFIX = "chat.";
const memory = new Map<string, string>();

export function kept<T>(name: string, otherwise: T): T {
  const text = read(PREFIX + name);
  if (text === null) return otherwise;
  try {
    return JSON.parse(text) as T;
  } catch {
    return otherwise;
  }
}

/** Null forgets it. */
export function keep(name: string, value: unknown): void {
  const key = PREFIX + name;
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    if (value === null) memory.delete(key);
    else memory.set(key, JSON.stringify(value));
  }
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key) ?? memory.get(key) ?? null;
  } catch {
    return memory.get(key) ?? null;
  }
}

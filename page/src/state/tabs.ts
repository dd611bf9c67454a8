// Other tabs of this browser on the same service: each tells the others what it has changed.

type Message = { kind: "sessions" } | { kind: "chat"; id: string };

const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("chat") : null;

export function tellTabs(message: Message): void {
  channel?.postMessage(message);
}

export function hearTabs(listen: (message: Message) => void): void {
  channel?.addEventListener("message", (event) => listen(event.data as Message));
}

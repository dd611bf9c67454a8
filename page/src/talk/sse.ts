// Server-sent events out of a stream of bytes, comments included: they say what a cold start is doing.

export interface ServerEvent {
  kind: "event" | "comment";
  name: string;
  data: string;
}

export class EventParser {
  private rest = "";
  private name = "";
  private data: string[] = [];

  /** The events that are complete with this text. */
  push(text: string): ServerEvent[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.line(line));
  }

  private line(line: string): ServerEvent[] {
    if (line === "") return this.end();
    if (line.startsWith(":")) return [{ kind: "comment", name: "", data: line.slice(1).trim() }];
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.name = value;
    if (field === "data") this.data.push(value);
    return [];
  }

  private end(): ServerEvent[] {
    const event: ServerEvent = { kind: "event", name: this.name, data: this.data.join("\n") };
    const any = this.data.length > 0;
    this.name = "";
    this.data = [];
    return any ? [event] : [];
  }
}

// What can go wrong between the page and the service, in the service's words where it had any.

export interface WireError {
  message?: string;
  type?: string;
  code?: string | null;
  param?: string | null;
}

export class ServiceError extends Error {
  readonly status: number;
  readonly code: string;
  /** In how many seconds asking again is expected to help; null: the service does not say. */
  readonly retryAfter: number | null;

  constructor(message: string, { status = 0, code = "", retryAfter = null as number | null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** Whether no answer came at all: the network, not the service. */
  get unreachable(): boolean {
    return this.code === UNREACHABLE || this.code === CUT;
  }
}

export const UNREACHABLE = "unreachable";
export const CUT = "connection_lost";

export function unreachable(): ServiceError {
  const message = navigator.onLine ? "The service cannot be reached." : "This device is offline.";
  return new ServiceError(message, { code: UNREACHABLE });
}

export function cut(): ServiceError {
  return new ServiceError("The connection was lost before the end of the answer. What came is kept.", { code: CUT });
}

export function told(error: WireError | undefined, status = 0, retryAfter: number | null = null): ServiceError {
  const message = error?.message || `The service answered with status ${status}.`;
  return new ServiceError(message, { status, code: error?.code ?? "", retryAfter });
}

/** The error in an answer that is none. */
export async function refusal(response: Response): Promise<ServiceError> {
  const wait = Number.parseFloat(response.headers.get("retry-after") ?? "");
  const retryAfter = Number.isFinite(wait) ? wait : null;
  try {
    const body = (await response.json()) as { error?: WireError };
    return told(body.error, response.status, retryAfter);
  } catch {
    return told(undefined, response.status, retryAfter);
  }
}

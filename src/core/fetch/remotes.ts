import type { Row } from '../../store/schema.ts'

/** How to reach an upstream: what a remote declares, with its secrets. */
export interface Access {
  url: string
  username?: string | undefined
  password?: string | undefined
  /** PEM texts. */
  caCert?: string | undefined
  clientCert?: string | undefined
  clientKey?: string | undefined
  tlsValidation?: boolean | undefined
  proxyUrl?: string | undefined
  proxyUsername?: string | undefined
  proxyPassword?: string | undefined
  /** Extra request headers. */
  headers?: readonly Record<string, string>[] | undefined
  /** Simultaneous downloads; 10 when absent. */
  concurrency?: number | undefined
  /** Retries of one file on one mirror after the first try; 3 when absent. */
  retries?: number | undefined
  /** Requests per second over all downloads of this access; unlimited when absent. */
  rateLimit?: number | undefined
  /** Seconds. */
  totalTimeout?: number | undefined
  connectTimeout?: number | undefined
  readTimeout?: number | undefined
}

/** How to reach what a remote names, with its secrets. */
export function accessOf(remote: Pick<Row<'remote'>, 'url' | 'settings' | 'secrets'>): Access {
  const settings = JSON.parse(remote.settings)
  const secrets = JSON.parse(remote.secrets)
  return {
    url: remote.url,
    username: secrets.username ?? undefined,
    password: secrets.password ?? undefined,
    caCert: settings.ca_cert ?? undefined,
    clientCert: settings.client_cert ?? undefined,
    clientKey: secrets.client_key ?? undefined,
    tlsValidation: settings.tls_validation ?? true,
    proxyUrl: settings.proxy_url ?? undefined,
    proxyUsername: secrets.proxy_username ?? undefined,
    proxyPassword: secrets.proxy_password ?? undefined,
    headers: settings.headers ?? undefined,
    concurrency: settings.download_concurrency ?? undefined,
    retries: settings.max_retries ?? undefined,
    rateLimit: settings.rate_limit ?? undefined,
    totalTimeout: settings.total_timeout ?? undefined,
    connectTimeout: settings.connect_timeout ?? settings.sock_connect_timeout ?? undefined,
    readTimeout: settings.sock_read_timeout ?? undefined,
  }
}

// A real PLC directory and a real PDS on loopback, for tests.
//
//   node network.mjs PACKAGES DATA
//
// PACKAGES is the folder that network.sh prints; DATA is a folder for the PDS. Takes one JSON object a line on standard
// input, `{"do": NAME, …}` with what `deeds` below says, and answers each with one line: `{"ok": …}` or
// `{"error": …}`. The first line that it prints tells where the servers are. Ends when standard input ends.
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'
import path from 'node:path'
import readline from 'node:readline'

process.env.LOG_ENABLED ??= 'false'
const [packages, data] = process.argv.slice(2).map((folder) => path.resolve(folder))
const require = createRequire(path.join(packages, 'package.json'))
const { PlcServer, Database } = require('@did-plc/server')
const { PDS, envToCfg, envToSecrets } = require('@atproto/pds')
const { Secp256k1Keypair, formatMultikey, multibaseToBytes } = require('@atproto/crypto')

const ADMIN_PASSWORD = 'network-test-only'

/** The address of a server that listens on a free port of loopback, spelled as the relay wants it. */
const listening = (server) =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(`http://localhost:${server.address().port}`))
  })

/** The DID document as plc.directory serves it: the package's server still has the legacy types of keys. */
function asServedToday(document) {
  const algorithms = { EcdsaSecp256k1VerificationKey2019: 'ES256K', EcdsaSecp256r1VerificationKey2019: 'ES256' }
  const absolute = (id) => (id.startsWith('#') ? document.id + id : id)
  for (const method of document.verificationMethod) {
    method.id = absolute(method.id)
    const algorithm = algorithms[method.type]
    if (!algorithm) continue
    method.publicKeyMultibase = formatMultikey(algorithm, multibaseToBytes(method.publicKeyMultibase))
    method.type = 'Multikey'
  }
  document['@context'] = ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1']
  return document
}

/** Serves the directory; its own `start` would listen on all interfaces. */
async function startDirectory() {
  const { app } = PlcServer.create({ db: Database.mock() })
  const server = http.createServer((request, response) => {
    const end = response.end
    response.end = function (body, ...rest) {
      if (String(response.getHeader('content-type')).startsWith('application/did+ld+json')) {
        body = JSON.stringify(asServedToday(JSON.parse(body)))
        response.setHeader('content-length', Buffer.byteLength(body))
      }
      return end.call(this, body, ...rest)
    }
    app(request, response)
  })
  return listening(server)
}

/** Starts the PDS, which has to know its port before it listens. */
async function startPds(directory) {
  const placeholder = http.createServer()
  const port = new URL(await listening(placeholder)).port
  await new Promise((resolve) => placeholder.close(resolve))
  fs.mkdirSync(path.join(data, 'db'), { recursive: true })
  const env = {
    devMode: true, // plain HTTP and private addresses
    port: Number(port),
    hostname: 'localhost',
    dataDirectory: path.join(data, 'db'),
    blobstoreDiskLocation: path.join(data, 'blobs'),
    adminPassword: ADMIN_PASSWORD,
    jwtSecret: crypto.randomBytes(16).toString('hex'),
    plcRotationKeyK256PrivateKeyHex: crypto.randomBytes(32).toString('hex'),
    serviceHandleDomains: ['.test'],
    didPlcUrl: directory,
    inviteRequired: false,
    disableSsrfProtection: true,
    repoBackfillLimitMs: 24 * 3600 * 1000,
  }
  const pds = await PDS.create(envToCfg(env), envToSecrets(env))
  const listen = pds.app.listen.bind(pds.app)
  pds.app.listen = (port) => listen(port, '127.0.0.1')
  await pds.start()
  return { url: `http://localhost:${port}`, pds }
}

const plc = await startDirectory()
const { url: host, pds } = await startPds(plc)

/** Calls a method of the PDS, as any client does. `body` makes it a procedure. */
async function call(method, { query, body, type = 'application/json', token } = {}) {
  const url = new URL(`/xrpc/${method}`, host)
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, value)
  }
  const headers = token ? { authorization: token } : {}
  const options = { headers }
  if (body !== undefined) {
    options.method = 'POST'
    headers['content-type'] = type
    options.body = type === 'application/json' ? JSON.stringify(body) : body
  }
  const response = await fetch(url, options)
  const text = await response.text()
  if (!response.ok) throw new Error(`${method}: ${response.status} ${text}`)
  return text && JSON.parse(text)
}

/** All pages of a list. */
async function pages(method, field, query) {
  const found = []
  for (let cursor; ; ) {
    const page = await call(method, { query: { ...query, limit: 100, cursor } })
    found.push(...page[field])
    cursor = page.cursor
    if (!cursor || page[field].length === 0) return found
  }
}

/** What was made here, by name: `{ did, handle, token }`. */
const accounts = new Map()

function account(name) {
  const found = accounts.get(name)
  if (!found) throw new Error(`no account ${name}`)
  return found
}

const as = ({ token }, method, body, type) => call(`com.atproto.${method}`, { body, type, token })
const asAdmin = (method, body) =>
  as({ token: `Basic ${Buffer.from(`admin:${ADMIN_PASSWORD}`).toString('base64')}` }, `admin.${method}`, body)

/** All that the PDS lists of a repository, which is nothing unless the account is active. */
async function listed({ did, active, status }) {
  if (!active) return { did, active, status, records: [] }
  const { handle, collections } = await call('com.atproto.repo.describeRepo', { query: { repo: did } })
  const lists = collections.map((collection) =>
    pages('com.atproto.repo.listRecords', 'records', { repo: did, collection }))
  return { did, active, status: null, handle, records: (await Promise.all(lists)).flat() }
}

const deeds = {
  async account({ name }) {
    const handle = `${name}.test`
    const password = crypto.randomBytes(8).toString('hex')
    const body = { handle, email: `${name}@example.test`, password }
    const { did, accessJwt } = await call('com.atproto.server.createAccount', { body })
    accounts.set(name, { did, token: `Bearer ${accessJwt}` })
    return { did, handle }
  },
  /** A record of its own key, or of `rkey`. */
  create({ name, collection, rkey, record }) {
    const repo = account(name)
    return as(repo, 'repo.createRecord', { repo: repo.did, collection, rkey, record })
  },
  put({ name, collection, rkey, record }) {
    const repo = account(name)
    return as(repo, 'repo.putRecord', { repo: repo.did, collection, rkey, record })
  },
  delete({ name, collection, rkey }) {
    const repo = account(name)
    return as(repo, 'repo.deleteRecord', { repo: repo.did, collection, rkey })
  },
  /** One commit of several writes, each `{ action, collection, rkey?, value? }`. */
  batch({ name, writes }) {
    const repo = account(name)
    const typed = writes.map(({ action, ...write }) => ({ $type: `com.atproto.repo.applyWrites#${action}`, ...write }))
    return as(repo, 'repo.applyWrites', { repo: repo.did, writes: typed })
  },
  async blob({ name, type, base64 }) {
    return (await as(account(name), 'repo.uploadBlob', Buffer.from(base64, 'base64'), type)).blob
  },
  handle: ({ name, handle }) => as(account(name), 'identity.updateHandle', { handle }),
  deactivate: ({ name }) => as(account(name), 'server.deactivateAccount', {}),
  // It takes no body, and says so.
  activate: ({ name }) => as(account(name), 'server.activateAccount', '', 'text/plain'),
  takedown({ name, applied }) {
    const subject = { $type: 'com.atproto.admin.defs#repoRef', did: account(name).did }
    return asAdmin('updateSubjectStatus', { subject, takedown: { applied, ref: 'test' } })
  },
  remove: ({ name }) => asAdmin('deleteAccount', { did: account(name).did }),
  /** Gives the account another signing key, as a PDS does that thinks its keys stolen. */
  async rotate({ name }) {
    const { did } = account(name)
    const key = await Secp256k1Keypair.create({ exportable: true })
    const { keyLocation } = await pds.ctx.actorStore.getLocation(did)
    fs.writeFileSync(keyLocation, await key.export())
    await pds.ctx.plcClient.updateAtprotoKey(did, pds.ctx.plcRotationKey, key.did())
    const { handle } = await pds.ctx.accountManager.getAccount(did)
    await pds.ctx.sequencer.sequenceIdentityEvt(did, handle)
  },
  /** Every account that was made here, with all of its records as the PDS lists them. */
  async list() {
    const hosted = await pages('com.atproto.sync.listRepos', 'repos', {})
    const known = new Map(hosted.map((repo) => [repo.did, repo]))
    const gone = (did) => ({ did, active: false, status: 'deleted' })
    return Promise.all([...accounts.values()].map(({ did }) => listed(known.get(did) ?? gone(did))))
  },
  /** How many follow the PDS's events now. */
  subscribers: () => pds.ctx.sequencer.listenerCount('events'),
}

const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`)
say({ ok: { plc, pds: host } })
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: deed, ...details } = JSON.parse(line)
  try {
    if (!Object.hasOwn(deeds, deed)) throw new Error(`nothing is called ${deed}`)
    say({ ok: (await deeds[deed](details)) ?? null })
  } catch (error) {
    say({ error: String(error?.stack ?? error) })
  }
}
process.exit(0)

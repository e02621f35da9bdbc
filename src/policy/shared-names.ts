import { isBelowZone } from '../base/host-name.ts'

/** A name behind which anybody can have an account: opening it opens a place to send things to. */
export interface SharedName {
  readonly zone: string
  /** What a stranger can do there; continues "there strangers …". */
  readonly why: string
}

const HOST_PAGES = 'publish pages and read who asks for them'
const RUN_CODE = 'run programs that receive what is sent'
const BUCKET = 'have buckets that take uploads'
const EDGE = 'have sites behind the same name, and a request can name another than the connection does'
const PASTE = 'post text that anybody can read'
const MESSAGES = 'have bots and web hooks that receive what is sent'
const TUNNEL = 'let a name lead to their own machine'
const FORMS = 'collect what is sent to their forms'
const COLLECT = 'have projects that store what is sent'
const DRIVE = 'have folders that take files'

const rows = (why: string, zones: string): SharedName[] => zones.split(' ').map((zone) => ({ zone, why }))

/** Most common first within a line; by no means all there are. `policy check` says so for a match, and its silence proves nothing. */
export const SHARED_NAMES: readonly SharedName[] = Object.freeze([
  ...rows(HOST_PAGES, 'github.io gitlab.io codeberg.page bitbucket.io netlify.app pages.dev surge.sh neocities.org readthedocs.io webflow.io wordpress.com blogspot.com wixsite.com squarespace.com notion.site'),
  ...rows(RUN_CODE, 'workers.dev vercel.app herokuapp.com azurewebsites.net azurecontainerapps.io fly.dev onrender.com railway.app deno.dev run.app appspot.com cloudfunctions.net web.app firebaseapp.com glitch.me replit.app repl.co supabase.co lambda-url.us-east-1.on.aws on.aws awsapprunner.com elasticbeanstalk.com ondigitalocean.app val.run modal.run hf.space streamlit.app pythonanywhere.com'),
  ...rows(BUCKET, 'amazonaws.com storage.googleapis.com blob.core.windows.net core.windows.net digitaloceanspaces.com r2.dev r2.cloudflarestorage.com backblazeb2.com wasabisys.com aliyuncs.com myqcloud.com linodeobjects.com your-objectstorage.com'),
  ...rows(EDGE, 'cloudfront.net fastly.net global.ssl.fastly.net akamaized.net akamaihd.net edgekey.net edgesuite.net azureedge.net azurefd.net cdn77.org b-cdn.net jsdelivr.net'),
  ...rows(PASTE, 'pastebin.com gist.github.com gist.githubusercontent.com paste.rs ix.io hastebin.com dpaste.org dpaste.com rentry.co privatebin.net termbin.com 0x0.st transfer.sh file.io catbox.moe'),
  ...rows('have repositories, issues and gists that take what is sent', 'github.com api.github.com raw.githubusercontent.com githubusercontent.com gitlab.com bitbucket.org codeberg.org'),
  ...rows(MESSAGES, 'api.telegram.org telegram.org t.me discord.com discordapp.com hooks.slack.com slack.com webhook.office.com graph.facebook.com matrix.org ntfy.sh pushover.net'),
  ...rows(TUNNEL, 'ngrok.io ngrok.app ngrok-free.app ngrok.dev trycloudflare.com loca.lt localhost.run serveo.net lhr.life ts.net devtunnels.ms duckdns.org no-ip.org ddns.net dyndns.org sslip.io nip.io'),
  ...rows(COLLECT, 'webhook.site requestbin.com pipedream.net beeceptor.com interact.sh oast.fun oastify.com burpcollaborator.net sentry.io ingest.sentry.io app.posthog.com google-analytics.com'),
  ...rows(FORMS, 'docs.google.com forms.gle script.google.com sheets.googleapis.com formspree.io typeform.com airtable.com'),
  ...rows(DRIVE, 'dropbox.com dropboxapi.com content.dropboxapi.com drive.google.com googleapis.com graph.microsoft.com onedrive.live.com sharepoint.com mega.nz wetransfer.com'),
  ...rows('publish packages, and a download counts as a message', 'registry.npmjs.org pypi.org upload.pypi.org hub.docker.com ghcr.io huggingface.co'),
])

/**
 * @param name a name, or the zone of a wildcard
 * @returns the longest row that is the name, lies above it, or (for a wildcard) lies below it
 */
export function sharedName(name: string, isWildcard: boolean): SharedName | null {
  return SHARED_NAMES
    .filter(({ zone }) => zone === name || isBelowZone(name, zone) || (isWildcard && isBelowZone(zone, name)))
    .reduce<SharedName | null>((best, row) => (best === null || row.zone.length > best.zone.length ? row : best), null)
}

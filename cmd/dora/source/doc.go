// Package source brings the programs of nodes from elsewhere onto this machine: clones of
// git repositories and downloads, with archives unpacked.
//
// What it guarantees:
//
//   - What was fetched is written down in the lock file beside the dataflow file,
//     <name>.lock.json: the commit of every git source, the checksum of every download.
//     `dora run` takes exactly that; `dora build` looks for something newer, unless it is
//     told to keep to the lock (--locked).
//   - A folder under .dora/git or .dora/downloads is complete: it is made under another
//     name and renamed when everything is there. What an interruption leaves is removed by
//     the next fetch.
//   - A checksum that was given is checked before anything is used. An archive cannot write
//     outside of its folder, by no name and no link, and what it unpacks to is bounded.
//   - Errors name the node, the source and what was asked for; passwords in URLs are not
//     shown.
//
// Start reading at Fetch.
package source

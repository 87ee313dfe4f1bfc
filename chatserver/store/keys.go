package store

// Names of keys. The part in braces is the hash tag: all keys of one entity are in one slot.
// User and room names hold no braces and no white space and are not empty; callers check
// that (package protocol, package auth).

func userKey(user string) string         { return "user:{" + user + "}" }                // hash: password, created, role, disabled, publicKey
func loginsKey(user string) string       { return "logins:{" + user + "}" }              // hash: sid -> login, JSON
func refreshKey(family string) string    { return "refresh:{" + family + "}" }           // hash: user, sid, current, previous, rotated; both secrets hashed
func sessionKey(user string) string      { return "session:{" + user + "}" }             // hash: status, room, server, since
func sessionHeldKey(user string) string  { return "session:{" + user + "}:held" }        // hash: "<server> <sid>" -> 1
func subscribersKey(user string) string  { return "subscribers:{" + user + "}" }         // set of followers
func followingKey(user string) string    { return "following:{" + user + "}" }           // set of users followed
func directKey(user string) string       { return "direct:{" + user + "}" }              // set of direct rooms
func roomKey(room string) string         { return "room:{" + room + "}" }                // set of active users
func presenceKey(room string) string     { return "room:{" + room + "}:presence" }       // hash: user -> servers, space separated
func logKey(room string) string          { return "room:{" + room + "}:log" }            // stream: id "<offset>-0", field "m"
func metaKey(room string) string         { return "room:{" + room + "}:meta" }           // hash: epoch, offset, and what lib/epoch.lua and announce.lua say
func sentKey(room, user string) string   { return "room:{" + room + "}:sent:" + user }   // list: id, offset, id, offset, newest first
func seriesKey(room, user string) string { return "room:{" + room + "}:series:" + user } // hash: series -> "<last number> <its offset>"
func infoKey(room string) string         { return "room:{" + room + "}:info" }           // hash: kind, owner, topic, created, encrypted, closed, guarded, keepMessages, keepMillis
func membersKey(room string) string      { return "room:{" + room + "}:members" }        // hash: user -> since, unix ms
func invitedKey(room string) string      { return "room:{" + room + "}:invited" }        // set of users
func bannedKey(room string) string       { return "room:{" + room + "}:banned" }         // hash: user -> end, unix ms; 0: none
func mutedKey(room string) string        { return "room:{" + room + "}:muted" }          // the same
func readsKey(room string) string        { return "room:{" + room + "}:reads" }          // hash: user -> "<offset> <messages up to there>"
func stateKey(room string) string        { return "room:{" + room + "}:state" }          // hash: offset -> JSON of what became of that message
func userRoomsKey(user string) string    { return "rooms:{" + user + "}" }               // set of rooms the user is a member of
func serverKey(name string) string       { return "server:{" + name + "}" }              // string with a TTL: the heartbeat
func heldKey(name string) string         { return "server:{" + name + "}:held" }         // set: "session <user> <sid>", "room <room> <user>"
func pushKey(user string) string         { return "push:{" + user + "}" }                // hash: subscription id -> subscription, JSON
func noticesKey(shard string) string     { return "notices:{" + shard + "}" }            // sorted set: id -> due, unix ms; hashes :body and :tries
func limitKey(key string) string         { return "limit:{" + key + "}" }                // counter with a TTL

const (
	roomsKey   = "rooms"   // sorted set: every room that may have users -> time of the last Enter, unix µs
	usersKey   = "users"   // sorted set, all with score 0: every account
	serversKey = "servers" // set: every server that may hold something
)

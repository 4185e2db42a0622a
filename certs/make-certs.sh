#!/usr/bin/env bash
# Makes a local authority and a server certificate, here, with openssl:
#
#   certs/make-certs.sh [HOST]...
#
# The certificate is for localhost, the loopback addresses and the named hosts. Then
#
#   lockstep serve --config lockstep.toml --cert certs/server.pem --key certs/server-key.pem
#
# and clients trust certs/ca.pem (docs/configuration.md). The authority is kept and used again.
# Nothing of this is ever committed: .gitignore lists it, and git is asked below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077

DAYS=397 # some clients refuse certificates of more than 825 days
CURVE=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

names="DNS:localhost,IP:127.0.0.1,IP:::1"
for host in "$@"; do
    if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
done

if [ ! -e ca.pem ] || [ ! -e ca-key.pem ]; then
    openssl req -x509 "${CURVE[@]}" -days 3650 -subj "/CN=Lockstep local authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca-key.pem -out ca.pem 2>/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
openssl req "${CURVE[@]}" -subj "/CN=Lockstep server" -keyout "$work/key.pem" -out "$work/request.pem" 2>/dev/null
printf '%s\n' "basicConstraints=CA:FALSE" "keyUsage=digitalSignature" "extendedKeyUsage=serverAuth" \
    "subjectAltName=$names" >"$work/extensions"
openssl x509 -req -in "$work/request.pem" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -CAserial "$work/serial" \
    -days "$DAYS" -extfile "$work/extensions" -out "$work/server.pem" 2>/dev/null
cat "$work/server.pem" ca.pem >server.pem
cp "$work/key.pem" server-key.pem
chmod 644 ca.pem server.pem

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    for file in ca.pem ca-key.pem server.pem server-key.pem; do
        git check-ignore -q "$file" || { echo "$file would be committed: add it to .gitignore" >&2; exit 1; }
    done
fi
echo "made $PWD/server.pem and server-key.pem for $names; clients trust $PWD/ca.pem"

#!/usr/bin/env bash
# Builds a real image from Debian packages, without a container engine and without root:
#   bash examples/debian-image.sh OCI-LAYOUT:TAG "FIRST LAYER'S PACKAGES" ["SECOND LAYER'S PACKAGES" …]
# Each layer holds the packages' files and the dpkg database as it stands after them. Needs apt-get and dpkg-deb; the
# packages come from whatever this machine's apt is set up for. They are unpacked, not configured: enough to scan and run.
set -euo pipefail

layout=${1%:*} tag=${1##*:}
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$layout/blobs/sha256" "$work/debs"

# Stores standard input as a blob; prints `DIGEST SIZE`.
blob() {
    local file digest
    file=$(mktemp "$work/blob.XXXXXX")
    cat >"$file"
    digest=$(sha256sum "$file" | cut -d' ' -f1)
    printf 'sha256:%s %s\n' "$digest" "$(stat -c %s "$file")"
    mv "$file" "$layout/blobs/sha256/$digest"
}

descriptor() { printf '{"mediaType":"%s","digest":"%s","size":%s}' "$1" "$2" "$3"; }

status="" layers="" diff_ids="" number=0
for packages in "$@"; do
    number=$((number + 1))
    root="$work/root$number"
    mkdir -p "$root/var/lib/dpkg"
    for package in $packages; do
        (cd "$work/debs" && apt-get download -qq -o APT::Sandbox::User=root "$package" >/dev/null)
        deb=$(find "$work/debs" -name "${package}_*.deb")
        dpkg-deb -x "$deb" "$root"
        status+=$(dpkg-deb -f "$deb" | sed 's/^Package:.*/&\nStatus: install ok installed/')$'\n\n'
    done
    printf '%s' "$status" >"$root/var/lib/dpkg/status"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$root" -cf "$work/layer.tar" .
    diff_ids+="${diff_ids:+,}\"sha256:$(sha256sum "$work/layer.tar" | cut -d' ' -f1)\""
    read -r digest size < <(gzip -n6 <"$work/layer.tar" | blob)
    layers+="${layers:+,}$(descriptor application/vnd.oci.image.layer.v1.tar+gzip "$digest" "$size")"
done

architecture=$(dpkg --print-architecture)
labels="{\"org.opencontainers.image.version\":\"$tag\"}"
config="{\"architecture\":\"$architecture\",\"os\":\"linux\",\"config\":{\"Labels\":$labels},"
config+="\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diff_ids]}}"
read -r digest size < <(printf '%s' "$config" | blob)
manifest="{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\","
manifest+="\"config\":$(descriptor application/vnd.oci.image.config.v1+json "$digest" "$size"),\"layers\":[$layers]}"
read -r digest size < <(printf '%s' "$manifest" | blob)
printf '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
entry="$(descriptor application/vnd.oci.image.manifest.v1+json "$digest" "$size")"
entry="${entry%\}},\"annotations\":{\"org.opencontainers.image.ref.name\":\"$tag\"}}"
# One layout may hold several tags.
others=$(sed -n 's/^{"schemaVersion":2,"manifests":\[\(.*\)\]}$/\1/p' "$layout/index.json" 2>/dev/null || true)
printf '{"schemaVersion":2,"manifests":[%s%s]}\n' "${others:+$others,}" "$entry" >"$layout/index.json"
printf '%s\n' "$digest"

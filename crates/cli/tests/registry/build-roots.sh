#!/usr/bin/env bash
# Makes the root file systems of the real-registry tier out of Debian packages: unpacked with their dependencies, no
# maintainer script is run.
#
#   build-roots.sh DIR      makes DIR/roots/{busybox,nginx}; packages are kept in DIR/packages. What is there is kept.
#
# Needs Debian with root. Nothing is installed on this machine.
set -euo pipefail
mkdir -p "${1:?directory}/roots" "$1/packages/partial"
dir=$(cd "$1" && pwd)

# download TO PACKAGE…: the packages and, because nothing counts as installed, all they depend on
download() {
    local to=$1
    shift
    mkdir -p "$to/partial"
    : >"$to/status"
    apt-get -qq --yes --download-only --no-install-recommends -o Dir::State::status="$to/status" \
        -o Dir::Cache::archives="$to" -o Debug::NoLocking=1 -o APT::Sandbox::User=root install "$@" >/dev/null
}

fetch() {
    download "$@" || { apt-get -qq update && download "$@"; }
}

# unpack ROOT DEB…: /bin, /sbin and /lib are links, as on every Debian of today
unpack() {
    local root=$1 name package
    shift
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{etc,root,run,tmp,var/log} "$root"/{dev,proc,sys}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    chmod 1777 "$root/tmp"
    for package in "$@"; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$root" --keep-directory-symlink \
            --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' \
            --exclude='./usr/share/info' --exclude='./usr/share/lintian'
    done
    printf '%s\n' 'root:x:0:0::/root:/bin/sh' 'www-data:x:33:33::/var/www:/bin/false' \
        'nobody:x:65534:65534::/:/bin/false' >"$root/etc/passwd"
    printf '%s\n' 'root:x:0:' 'adm:x:4:' 'www-data:x:33:' 'nogroup:x:65534:' >"$root/etc/group"
}

busybox() {
    local name
    fetch "$dir/packages/busybox" busybox-static
    # The static one needs none of the packages it came with.
    unpack "$1" "$dir"/packages/busybox/busybox-static_*.deb
    for name in $("$1/bin/busybox" --list); do
        [[ -e $1/usr/bin/$name || -L $1/usr/bin/$name ]] || ln -s busybox "$1/usr/bin/$name"
    done
}

nginx() {
    fetch "$dir/packages/nginx" nginx
    unpack "$1" "$dir"/packages/nginx/*.deb
    # What its maintainer scripts would have done.
    mkdir -p "$1/var/www/html"
    echo 'catamaran carries nginx' >"$1/var/www/html/index.html"
    ln -s ../sites-available/default "$1/etc/nginx/sites-enabled/default"
    ln -sf /dev/stdout "$1/var/log/nginx/access.log"
    ln -sf /dev/stderr "$1/var/log/nginx/error.log"
}

for image in busybox nginx; do
    root=$dir/roots/$image
    [[ $root -nt $0 ]] && continue
    rm -rf "$root" "$root.new"
    "$image" "$root.new"
    touch "$root.new"
    mv "$root.new" "$root"
    echo "$image: $(du -sh "$root" | cut -f1)"
done

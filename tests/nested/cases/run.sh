# SPDX-License-Identifier: ISC
# Exit statuses, messages, streams and arguments of an image on kvm.
ENGINE=kvm sh /bin/ending wherry /bin/guest-ending

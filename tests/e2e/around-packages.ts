/* What a repository has beside its packages: groups, advisories, modules. */

export const comps = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE comps PUBLIC "-//Red Hat, Inc.//DTD Comps info//EN" "comps.dtd">
<comps>
  <group>
    <id>cloud</id>
    <name>Cloud &amp; more</name>
    <name xml:lang="de">Wolke</name>
    <description>What a cloud needs.</description>
    <description xml:lang="de">Was eine Wolke braucht.</description>
    <default>true</default>
    <uservisible>true</uservisible>
    <packagelist>
      <packagereq type="mandatory">app</packagereq>
      <packagereq type="default">lib</packagereq>
      <packagereq type="optional">tool</packagereq>
      <packagereq type="conditional" requires="app">docs</packagereq>
    </packagelist>
  </group>
  <group>
    <id>hidden</id>
    <name>Hidden</name>
    <description/>
    <default>false</default>
    <uservisible>false</uservisible>
    <packagelist><packagereq>tool</packagereq></packagelist>
  </group>
  <category>
    <id>servers</id>
    <name>Servers</name>
    <description>Things that serve.</description>
    <display_order>90</display_order>
    <grouplist><groupid>cloud</groupid></grouplist>
  </category>
  <environment>
    <id>minimal</id>
    <name>Minimal</name>
    <description>As little as possible.</description>
    <display_order>3</display_order>
    <grouplist><groupid>cloud</groupid></grouplist>
    <optionlist><groupid default="true">hidden</groupid></optionlist>
  </environment>
  <langpacks>
    <match name="docs" install="docs-%s"/>
  </langpacks>
</comps>
`

export const updateinfo = `<?xml version="1.0" encoding="UTF-8"?>
<updates>
  <update from="security@localhost" status="final" type="security" version="2">
    <id>TEST-2026:0001</id>
    <title>app: one must not &lt;break&gt; "it" &amp; them</title>
    <issued date="2026-11-01 08:00:00"/>
    <updated date="2026-11-02 09:30:00"/>
    <rights>Nobody's</rights>
    <release>Test 9</release>
    <pushcount>1</pushcount>
    <severity>Important</severity>
    <summary>An important update of app.</summary>
    <description>It was broken.

Now it is not: ä ö ü.</description>
    <solution>Update.</solution>
    <references>
      <reference href="http://localhost/1" id="CVE-2026-0001" title="CVE-2026-0001" type="cve"/>
      <reference href="http://localhost/2" id="2" title="A bug" type="bugzilla"/>
    </references>
    <pkglist>
      <collection short="test">
        <name>Test</name>
        <package name="app" version="4.0" release="1" epoch="0" arch="noarch" src="app-4.0-1.src.rpm">
          <filename>app-4.0-1.noarch.rpm</filename>
          <reboot_suggested>True</reboot_suggested>
        </package>
      </collection>
    </pkglist>
  </update>
  <update from="bugs@localhost" status="stable" type="bugfix" version="1">
    <id>TEST-2026:0002</id>
    <title>tool</title>
    <issued date="2026-11-03"/>
    <description/>
    <references/>
    <pkglist>
      <collection>
        <package name="tool" version="1.0" release="1" epoch="0" arch="x86_64" src="tool-1.0-1.src.rpm">
          <filename>tool-1.0-1.x86_64.rpm</filename>
        </package>
      </collection>
    </pkglist>
  </update>
</updates>
`

/** A module of one stream, which has the package `choir`, and its default. */
export const modules = `---
document: modulemd
version: 2
data:
  name: choir
  stream: "4"
  version: 20261101
  context: be11be11
  arch: noarch
  summary: Many voices
  description: >-
    Voices that are heard together.
  license:
    module: [Apache-2.0]
    content: [Apache-2.0]
  profiles:
    default:
      rpms: [choir]
    large:
      description: All of it.
      rpms: [choir, app]
  api:
    rpms: [choir]
  artifacts:
    rpms:
      - choir-0:4.0-1.noarch
...
---
document: modulemd-defaults
version: 1
data:
  module: choir
  stream: "4"
  profiles:
    "4": [default]
...
`
